"""A painter of faces: factors in, soft portraits out, a chunk of images at once.

A head is an ellipsoid that turns and nods. Features sit at points of it in three dimensions and are projected, so that
a turn moves the nose further than the eyes and narrows what faces away. The head's relief (nose, sockets, cheeks, chin)
is a height field whose slope meets the light. Edges are signed distances, one pixel soft. Only + - * / sqrt, floor and
comparisons touch the pixels: what IEEE 754 rounds in one way only, so that the bytes are the same on every machine.
"""

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np

VERSION = 1                                              # of the pixels: a change of them has to raise it
Factor = namedtuple("Factor", "low high meaning neutral sample")         # sample(u): its values from u, even in [0, 1)


def _even(meaning, neutral, low=0):
    return Factor(low, 1, meaning, neutral, lambda u: low + (1 - low) * u)


def _middling(meaning):                                  # denser in the middle
    return Factor(-1, 1, meaning, 0, lambda u: 0.4 * (2 * u - 1) + 0.6 * (2 * u - 1) ** 3)


def _seldom(meaning, share):                             # 0 except in this share of the faces, where it is even
    return Factor(0, 1, meaning, 0, lambda u: np.maximum(u - (1 - share), 0) / share)


FACTORS = {
    "skin": _even("skin: light to deep", 0.3),
    "undertone": _middling("skin: rosy to golden"),
    "face_width": _middling("head: narrow to wide"),
    "jaw": _middling("jaw: pointed to square"),
    "age": Factor(0, 1, "folds and lines: none to clear", 0.1, lambda u: u * u),
    "hair_style": Factor(0, 3, "0 loose, 1 curly, 2 tied up, 3 shaved", 0, lambda u: np.digitize(u, [0.5, 0.75, 0.88])),
    "hair_length": Factor(0, 1, "loose or curly hair: cropped to below the shoulders", 0.15, lambda u: (u + u * u) / 2),
    "hair_volume": _even("hair: flat to full (shaved: bare to stubble)", 0.5),
    "fringe": _seldom("forehead: free to covered by a fringe", 0.4),
    "parting": _middling("parting: on the left to the right of the image"),
    "hair_color": Factor(0, 1, "hair: black, brown, auburn, copper, blond", 0.25, lambda u: 0.6 * u + 0.4 * u ** 3),
    "gray": _seldom("hair: colored to gray", 0.25),
    "eye_size": _middling("eyes: narrow to wide open"),
    "eye_distance": _middling("eyes: close-set to wide-set"),
    "eye_color": Factor(0, 1, "iris: dark brown to hazel, green, blue, gray", 0.15, lambda u: 0.4 * u + 0.6 * u * u),
    "gaze": _middling("gaze: to the left to the right of the image"),
    "brow_height": _middling("brows: low to raised"),
    "brow_angle": _middling("brows: inner ends up (worried) to down (stern)"),
    "nose": _middling("nose: small to large"),
    "mouth_width": _middling("mouth: narrow to wide"),
    "lips": _middling("lips: thin to full"),
    "smile": Factor(-1, 1, "mouth: corners down to a broad smile", 0.3, lambda u: 1 - 1.5 * u ** 1.5),
    "mouth_open": _seldom("mouth: closed to open, with teeth", 0.4),
    "makeup": Factor(0, 1, "lips and cheeks: natural to rouged", 0.1, lambda u: u * u),
    "beard": _seldom("beard: none, stubble, full", 0.3),
    "glasses": Factor(0, 1, "0 without, 1 with glasses", 0, lambda u: (u > 0.78) * 1.0),
    "turn": _middling("head turned to the left to the right of the image, by 30 degrees"),
    "nod": _middling("head raised to lowered, by 9 degrees"),
    "tilt": _middling("head leaning to the left to the right of the image, by 9 degrees"),
    "light": _even("light from the left to from the right of the image", -0.4, low=-1),
    "background": _even("hue behind: sand, sage, teal, slate, lavender, rose, clay, sand", 0.4),
    "brightness": _even("background: dark to light", 0.7),
    "clothes": _even("clothes: navy, charcoal, white, burgundy, forest, mustard, denim, rose", 0.1),
    "strands": _even("where single strands of hair fall (texture only)", 0),
}
_COLORS = {                                              # red, green and blue in thousandths, along a scale
    "skin": "985 855 775, 955 780 665, 895 690 550, 790 575 425, 645 440 315, 510 335 240, 385 250 185",
    "hair": "080 070 070, 170 110 085, 310 195 125, 420 225 130, 580 340 180, 680 510 310, 850 730 510",
    "iris": "150 085 055, 300 175 095, 420 310 150, 290 370 240, 270 390 520, 430 490 540",
    "wall": "860 760 620, 680 770 620, 450 660 660, 470 570 740, 660 600 760, 840 620 620, 820 560 420, 860 760 620",
    "cloth": "160 200 340, 240 240 260, 900 890 860, 480 140 180, 170 330 260, 780 600 260, 340 470 640, 800 560 540",
}
_ZOOM, _PIVOT, _DEPTH = 1.11, 0.6, 0.44                  # of the frame; where the neck bends; of the face from its axis


def _rgb(*color):
    return np.array(color, np.float32).reshape(3, 1, 1, 1)


def _palette(name, t):
    """Colors (3,n,1,1) at the places t (n,1,1) in [0, 1] along a scale."""
    table = np.array([color.split() for color in _COLORS[name].split(",")], float) / 1000
    places = t.ravel().astype(float) * (len(table) - 1)
    return np.float32([np.interp(places, range(len(table)), channel) for channel in table.T])[..., None, None]


def _mix(a, b, t):
    return a + (b - a) * t


def _smooth(low, high, t):
    """0 at `low`, 1 at `high`, smooth between, constant beyond; high < low falls."""
    t = np.clip((t - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _bump(*coordinates):
    """A soft hill: 1 at the origin, 0 from radius 1 on."""
    return np.maximum(1 - sum(u * u for u in coordinates), 0) ** 2


def _wave(t):
    """A smooth wave of period 1, in [-1, 1], made of polynomials."""
    t = t - np.floor(t)
    return 1 - 32 * (t * (1 - t)) ** 2


def _stroke(distance, width, ink=1.1):
    """A soft line where `distance` is 0; with more ink than 1 its middle is solid."""
    return np.clip(ink - np.abs(distance) / width, 0, 1)


class _Portraits:
    """One chunk. Fields are (n, rows, columns), colors (3, n, 1, 1); x runs right, y down, heads are about 1.4 high."""

    def __init__(self, factors, size):
        self.f = f = SimpleNamespace(**factors)
        self.size, self.px = size, np.float32(2 / size / _ZOOM)
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5 - size / 2)) * self.px
        self.bx, self.by = axis[None, None, :], axis[None, :, None] + np.float32(0.045)    # upright, for body and wall
        pose = [t.astype(float) * (degrees * np.pi / 180) for t, degrees in ((f.turn, 30), (f.nod, 9), (f.tilt, 9))]
        (self.s, self.sn, self.sr), (self.c, self.cn, self.cr) = np.float32(np.sin(pose)), np.float32(np.cos(pose))
        self.x = self.cr * self.bx + self.sr * (self.by - _PIVOT)                              # leaning with the head
        self.y = self.cr * (self.by - _PIVOT) - self.sr * self.bx + _PIVOT
        length = np.sqrt((0.85 * f.light) ** 2 + 0.42 ** 2 + 0.62 ** 2)
        self.light = 0.85 * f.light / length, -0.42 / length, 0.62 / length
        self.skin = _palette("skin", f.skin) + f.undertone * _rgb(.002, .020, -.030)
        self.deep = self.skin * _rgb(.55, .43, .40)                         # shadows on skin are warm, not gray
        self.hair = _mix(_palette("hair", f.hair_color), _rgb(.68, .67, .67), 0.95 * f.gray)
        self.curly, self.tied, self.shaved = (np.float32(f.hair_style == k) for k in (1, 2, 3))

    def edge(self, distance):
        """Coverage of a pixel at this signed distance from an outline."""
        return np.clip(0.5 - distance / self.px, 0, 1)

    def band(self, Y, top, bottom):
        """Coverage of pixels at height Y by what lies between two curves, however thin it is."""
        return np.maximum(self.edge(Y - bottom) - self.edge(Y - top), 0)

    def place(self, X, Y, Z):
        """A point of the head on the screen: x, y, and how squarely its surface faces us (1 at most)."""
        facing = Z * self.c - X * self.s
        return X * self.c + Z * self.s, Y * self.cn + facing * self.sn, np.clip((facing + 0.06) / 0.42, 0.12, 1)

    def on_face(self, X, Y, out=0.0):
        return self.place(X, Y, _DEPTH * np.sqrt(np.maximum(1 - (X / 0.58) ** 2 - Y * Y, 0.05)) + out)

    def around(self, cx, cy, rx, ry):
        """The window of pixels in which anything within rx, ry of a point can lie, and coordinates from that point."""
        at, cr, sr = [slice(None)], self.cr, self.sr
        for middle, reach in ((sr * cx + cr * (cy - _PIVOT) + _PIVOT - 0.045, np.abs(cr * ry) + np.abs(sr * rx)),
                              (cr * cx - sr * (cy - _PIVOT), np.abs(cr * rx) + np.abs(sr * ry))):
            low, high = (middle - reach).min() / self.px, (middle + reach).max() / self.px
            at.append(slice(*(max(int(k + self.size / 2), 0) for k in (np.floor(low) - 1, np.ceil(high) + 1))))
        at = tuple(at)
        return at, self.x[at] - cx, self.y[at] - cy

    def hill(self, field, height, cx, cy, rx, ry):
        at, X, Y = self.around(cx, cy, rx, ry)
        field[at] += height * _bump(X / rx, Y / ry)

    def lay(self, color, alpha, at=()):
        part = self.canvas[(slice(None), *at)]
        part += alpha * (color - part)

    def slope(self, h):
        rise = np.zeros((2, *h.shape), h.dtype)                             # across, and down
        rise[0, :, :, 1:-1], rise[1, :, 1:-1] = h[:, :, 2:] - h[:, :, :-2], h[:, 2:] - h[:, :-2]
        return rise / (2 * self.px)

    def lit(self, gx, gy):
        """Light on a surface of these slopes, 0 to 1; it reaches a little around the corner."""
        lx, ly, lz = self.light
        return np.clip(((lz - gx * lx - gy * ly) / np.sqrt(1 + gx * gx + gy * gy) + 0.35) / 1.35, 0, 1)

    def paint(self):
        """The pictures, uint8 (n,3,size,size), painted from back to front."""
        for part in (self.backdrop, self.head, self.hair_behind, self.body, self.face, self.beard, self.mouth):
            part()
        for part in (self.nostril, self.eye, self.brow, self.ear):
            part(-1)
            part(1)
        self.hair_in_front()
        self.spectacles()
        return (np.clip(self.canvas, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8).swapaxes(0, 1)

    def backdrop(self):
        f, bx, by = self.f, self.bx, self.by
        pool = 1.10 - 0.20 * (bx - 0.7 * f.light) ** 2 - 0.14 * (by + 0.5) ** 2            # of light, on the lit side
        pool = pool + 0.03 * _wave(0.7 * bx + 0.4 * by + f.strands) * _wave(0.6 * by - 0.3 * bx + 1.7 * f.strands)
        self.canvas = _palette("wall", f.background) * _mix(0.40, 1.06, f.brightness) * pool

    def head(self):
        """Outline (q < 0 inside, d its distance), and what point is seen: U from ear to ear, V its height."""
        f, x, y, s = self.f, self.x, self.y, self.s
        self.W, chin, y0 = 0.50 + 0.052 * f.face_width, 0.735 - 0.02 * f.face_width, 0.02 + 0.06 * f.nod
        low = y > y0
        t = (y - y0) / np.where(low, chin, np.float32(0.70))
        t2, jaw = t * t, np.where(low, 0.25 + 0.50 * f.jaw, np.float32(0.2))
        self.cx = s * (0.19 * np.where(low, t2, np.float32(0)) - 0.03)
        X, steep = (x - self.cx) / self.W, 2 * t * (1 - jaw) + 4 * jaw * t * t2
        self.q = X * X + t2 * (1 - jaw + jaw * t2) - 1
        self.d = self.q / np.sqrt(4 * X * X / (self.W * self.W) + steep * steep / (chin * chin) + 0.05)
        sx = np.clip(x / self.W, -1, 1)
        self.U, self.V = sx * self.c - np.sqrt(1 - sx * sx) * s, y - 0.10 * f.nod

    def hair_behind(self):
        """Hair as a volume behind and over the head: an ellipse above, a rounded curtain below; and its picture."""
        f, y, V, place = self.f, self.y, self.V, self.f.strands
        curly, bound, grown = self.curly, 1 - self.tied, 1 - self.shaved
        length, volume = f.hair_length * bound * grown, (f.hair_volume * (1 - 0.7 * self.tied) + 0.45 * curly) * grown
        loose, self.over_ears = _smooth(0.1, 0.5, length + 0.4 * curly), _smooth(0.12, 0.35, length + 0.35 * curly)
        hx = self.x + 0.10 * self.s - 0.06 * f.parting * np.maximum(-y, 0)
        wide = self.W + 0.025 + 0.02 * loose + volume * _mix(0.035, 0.11, loose) - 0.01 * self.shaved
        high, end = 0.72 + 0.03 * grown + 0.13 * volume, _mix(0.06 + 0.12 * curly, 1.35, length)
        below = y > -0.02
        t, X = (y + 0.02) / np.where(below, end, high), hx / wide
        t2, sx = t * t, np.clip(X, -1, 1)
        q = X * X + np.where(below, t2 * t2 * t2, t2 * (0.8 + 0.2 * t2)) - 1
        steep = np.where(below, 6 * t2 * t2 * t / end, 2 * t / high)
        U = sx * self.c - np.sqrt(1 - sx * sx) * self.s
        fan = (U - 0.5 * f.parting) / (V + 1.9)
        self.strands = (0.6 * _wave(5 * fan + 0.3 * _wave(0.9 * V + place) + place * 3)
                        + 0.4 * _wave(11 * fan + 0.35 * _wave(1.7 * V + 2 * place) + place * 7))
        if curly.any():
            direction = hx / (np.abs(hx) + np.abs(y + 0.1) + 1e-3)                # around the head, without an angle
            direction = np.where(y < -0.1, direction, np.where(hx > 0, 2 - direction, -2 - direction))
            lumps = 0.6 * _wave(3.2 * direction + 3 * place + y) + 0.4 * _wave(5.3 * direction - 2.1 * y + place)
            q += 0.10 * curly * lumps
            curls = _wave(2.7 * U + 0.5 * _wave(1.9 * V + place) + place)
            curls = curls * _wave(2.9 * V + 0.5 * _wave(1.7 * U + 2 * place))
            self.strands = _mix(self.strands, 1.3 * curls, curly)
        self.hair_d = np.maximum(q / np.sqrt(4 * X * X / (wide * wide) + steep * steep + 0.05), y - end)
        light = self.lit(*self.slope(0.5 * np.sqrt(np.maximum(-q, 0) + 0.04)))
        band = _bump((V + 0.46 - 0.16 * U * U - 0.03 * self.strands) / 0.20) * (1 - 0.5 * curly)
        groove = _bump((U - 0.5 * f.parting) / 0.07) * _smooth(-0.3, -0.5, V) * (1 - curly) * bound
        tone = 0.46 + 0.60 * light + 0.11 * self.strands + 0.30 * band * (0.3 + 0.7 * light) - 0.22 * groove
        self.hair_picture = self.hair * tone + 0.05 * band * light * grown
        self.lay(self.hair_picture * 0.70, self.edge(self.hair_d) * grown)
        if self.tied.any():
            radius = 0.15 + 0.08 * f.hair_volume
            at, X, Y = self.around(0.25 * f.parting - 0.14 * self.s, -high - 0.02, radius + 0.05, radius + 0.05)
            bun = self.edge(np.sqrt(X * X + Y * Y) - radius) * self.tied
            self.lay(self.hair_picture[(slice(None), *at)] * 0.95, bun, at)

    def body(self):
        f, rows, lx = self.f, (slice(None), slice(int(0.55 * self.size), None)), self.light[0]
        bx, by, d = self.bx - 0.05 * self.s, self.by[rows], self.d[rows]
        wide = 0.26 + 0.02 * f.face_width + 0.025 * f.jaw + 0.12 * _smooth(0.7, 1.0, by)
        light = self.lit(1.5 * bx / wide, np.float32(0.1)) * _mix(0.42, 1, _smooth(-0.02, 0.30, d - 0.08 * lx * bx))
        self.lay(_mix(self.deep, self.skin, light), self.edge(np.abs(bx) - wide), rows)
        opening = (1 - (bx / 0.33) ** 2 - ((by - 0.74) / 0.13) ** 2) * 0.08
        folds = 0.05 * _wave(1.3 * bx + 0.7 * by + f.strands)
        shade = 0.84 + folds + 0.25 * lx * bx - 0.22 * _smooth(-0.05, 0, opening)
        shoulders = np.maximum(0.77 + 0.32 * bx * bx - by, opening)
        self.lay(_palette("cloth", f.clothes) * shade, self.edge(shoulders), rows)

    def face(self):
        """Relief, light, blush, folds, and the shadow of the hair."""
        f, zero, (lx, ly, lz) = self.f, np.float32(0), self.light
        self.eye_x = 0.215 + 0.034 * f.eye_distance + 0.02 * f.face_width
        self.eyes = {side: self.on_face(side * self.eye_x, -0.07, -0.03) for side in (-1, 1)}
        self.nose_w, self.tip_y = 0.116 + 0.034 * f.nose, 0.220 + 0.032 * f.nose
        bx, by, _ = self.on_face(zero, -0.10, 0.01)
        tx, ty, _ = self.on_face(zero, self.tip_y, 0.115 + 0.04 * f.nose)
        self.mouth_at = mx, my, _ = self.on_face(zero, 0.435, 0.035)

        relief = _DEPTH * 1.05 * np.sqrt(np.maximum(-self.q, 0) + 0.03)
        red, worn = np.zeros_like(relief), np.zeros_like(relief)
        at, X, Y = self.around(zero, zero, 0.6, 0.5)
        w = np.clip((Y - by) / (ty - by), 0, 1)                         # 0 at the root of the nose, 1 at its tip
        ridge = _mix(bx, tx, w)
        left, right = (_mix(bx + k * 0.075, self.on_face(k * self.nose_w, self.tip_y)[0], w * w) for k in (-1, 1))
        across = (X - ridge) / np.where(X < ridge, np.maximum(ridge - left, 0.03), np.maximum(right - ridge, 0.03))
        nose = (0.095 + 0.01 * f.nose) * (0.22 + 0.78 * w) * _bump(across)
        relief[at] += nose * _smooth(by - 0.12, by + 0.08, Y) * _smooth(ty + 0.09, ty, Y)
        self.hill(relief, 0.022, tx, ty, 0.095, 0.09)
        for side, (ex, ey, ef) in self.eyes.items():
            self.hill(relief, -0.050, ex, ey - 0.01, 0.20 * ef + 0.02, 0.15)
            self.hill(relief, 0.024, ex, ey - 0.17, 0.24 * ef + 0.02, 0.12)
            kx, ky, kf = self.on_face(side * 0.27, 0.20 - 0.03 * f.smile)
            self.hill(relief, 0.045 + 0.018 * f.smile, kx, ky, 0.26 * kf + 0.02, 0.24)
            kx, ky, kf = self.on_face(side * 0.29, 0.20)
            self.hill(red, 0.32 + 0.5 * f.makeup, kx, ky, 0.24 * kf + 0.02, 0.20)
            at, X, Y = self.around(*self.on_face(side * 0.21, 0.37)[:2], 0.14, 0.17)
            folds = 0.06 + 0.18 * np.maximum(f.smile, 0) + 0.50 * f.age
            worn[at] += folds * _bump((X - side * 0.25 * Y) / 0.05, Y / 0.17)
            self.hill(worn, 0.55 * f.age, ex, ey + 0.11, 0.15 * ef, 0.045)
        self.hill(relief, 0.035, *self.on_face(zero, 0.66, 0.02)[:2], 0.20, 0.14)
        self.hill(relief, 0.030, mx, my, 0.24, 0.16)
        self.hill(relief, -0.018, mx, my + 0.125, 0.17, 0.06)
        self.hill(red, 0.2, tx, ty, 0.13, 0.12)
        at, X, Y = self.around(bx, by - 0.27, 0.32, 0.14)
        worn[at] += 0.50 * f.age * _bump(X / 0.32, Y / 0.14) * np.maximum(_wave((Y + 0.1 * X * X) * 10), 0)

        gx, gy = 0.85 * self.slope(relief)
        shade = self.lit(gx, gy)
        for side, (ex, ey, ef) in self.eyes.items():                                          # where light hardly gets
            self.hill(shade, -0.12, ex - side * 0.05, ey - 0.05, 0.20 * ef, 0.12)
        self.hill(shade, -0.20, tx - 0.06 * lx, ty + 0.09, 0.15, 0.07)
        self.hill(shade, -0.10, mx, my + 0.125, 0.17, 0.05)
        self.shade = shade = np.clip(shade, 0, 1)
        half = np.sqrt((1 + gx * gx + gy * gy) * (lx * lx + ly * ly + (lz + 1) ** 2))
        gleam = (((np.maximum((lz + 1 - gx * lx - gy * ly) / half, 0) ** 2) ** 2) ** 2) ** 2
        picture = _mix(self.deep, self.skin * 1.03, shade) + (0.09 + 0.05 * f.skin) * gleam
        picture *= 1 - red * _rgb(-.02, .20, .22)
        picture += np.minimum(worn, 1) * (self.deep - picture)
        self.hairline()
        picture += 0.5 * _smooth(0.10, -0.02, self.crown) * (1 - 0.7 * self.shaved) * (0.9 * self.deep - picture)
        self.lay(picture, self.edge(self.d))

    def hairline(self):
        """`crown`: distance to where the hair in front begins, negative in it; `cap`: to that above the forehead."""
        f, V, across, off = self.f, self.V, np.abs(self.U), np.abs(self.U - 0.5 * self.f.parting)
        free, loose = (1 - f.fringe) * (1 - 0.6 * self.tied), (1 - self.tied) * (1 - self.shaved)
        parted = -0.55 + 0.06 * self.tied + (0.16 * loose + 0.12 * off) * off
        line = _mix(-0.22 - 0.02 * off * off, parted, free)
        line = line + 0.03 * _mix(1, 0.4, free) * self.strands * loose + 0.75 * np.maximum(across - 0.72, 0)
        self.cap = (V - line) * 0.85
        sides = np.maximum(np.minimum((0.90 - across) * self.W, -self.d), 0.37 - np.abs(self.x - self.cx))
        sides = np.maximum(sides, (V - _mix(-0.04, 2.0, self.over_ears)) * 0.8)
        self.crown = np.minimum(self.cap, sides)

    def beard(self):
        f, (mx, my, mf) = self.f, self.mouth_at
        if not f.beard.any():
            return
        at, X, Y = self.around(mx, my, 0.9, 0.75)
        u, v = self.U[at], self.V[at]
        bristle = 0.6 * self.strands[at] + 0.4 * _wave(9 * u + 3 * f.strands) * _wave(8 * v + 0.6 * _wave(4 * u))
        cheek = np.maximum(0.36 - 0.6 * np.maximum(np.abs(u) - 0.5, 0) - 3 * np.maximum(np.abs(u) - 0.86, 0), 0.02)
        cover = _smooth(-0.08, 0.10, v - cheek + 0.02 * bristle)
        cover = cover * (1 - np.minimum(1.7 * _bump(X / (0.21 * mf), (Y - 0.01) / 0.12), 1))
        cover = np.maximum(cover, np.minimum(1.5 * _bump(X / (0.25 * mf), (Y + 0.08 + 1.5 * X * X) / 0.075), 1))
        grown = np.minimum(0.22 + 0.85 * f.beard, 0.92) * _smooth(0, 0.1, f.beard)
        cover = cover * _smooth(0.02, -0.02, self.d[at] - 0.05 * f.beard) * grown
        self.lay(self.hair * (0.36 + 0.46 * self.shade[at] + 0.13 * bristle), cover * (0.90 + 0.10 * bristle), at)

    def mouth(self):
        f, (mx, my, mf) = self.f, self.mouth_at
        wide = (0.165 + 0.048 * f.mouth_width + 0.035 * np.maximum(f.smile, 0)) * _mix(1, mf, 0.8) * self.c
        at, X, Y = self.around(mx, my, wide * 1.25, 0.22)
        v = X / wide
        v2 = np.minimum(v * v, 1.5)
        taper, full, gap = np.maximum(1 - v2, 0), 1 + 0.42 * f.lips, 0.075 * f.mouth_open * np.maximum(1 - v2, 0)
        line = 0.01 - np.where(f.smile > 0, 0.085 * f.smile, 0.055 * f.smile) * (v2 - 0.35)
        above, below = line - 0.3 * gap, line + 0.7 * gap
        upper = above - 0.050 * full * taper * (1 - 0.25 * _bump(v / 0.28)) - 0.004
        lower = below + 0.066 * full * np.sqrt(taper + 1e-4) * taper
        rouge = _rgb(.70, .15, .20) * _mix(1.05, 0.75, f.skin)
        blood = _mix(self.skin * _rgb(.90, .62, .58), rouge, 0.05 + 0.75 * f.makeup)
        shade = (0.64 + 0.42 * self.shade[at]) * (1 + 0.10 * _smooth(-0.03, 0.03, Y - line))
        gleam = 0.10 * _bump((v - 0.25 * self.light[0]) / 0.6, (Y - lower + 0.032 * full) / 0.03)
        self.lay(blood * shade + gleam, self.band(Y, upper, lower) * _smooth(1.1, 0.95, v2), at)
        self.lay(_rgb(.28, .10, .10), self.band(Y, above, below), at)
        self.lay(_rgb(.95, .91, .87) * (1 - 0.4 * v2), self.band(Y, above, above + 0.7 * gap), at)
        crease = _stroke(Y - line, 0.030, 1) * _smooth(1.2, 0.9, v2) * (1 - _smooth(0, 0.03, gap))
        corner = _bump((np.abs(v) - 1) / 0.22, (Y - line) / 0.045)
        self.lay(self.deep * 0.6, np.minimum(0.60 * crease + 0.42 * corner, 1), at)

    def nostril(self, side):
        """The hole, and the shadow beside the wing of the nose."""
        ox, oy, of = self.on_face(side * (0.055 + 0.014 * self.f.nose), self.tip_y + 0.045, 0.08)
        wx, wy, _ = self.on_face(side * (self.nose_w - 0.005), self.tip_y + 0.01, 0.02)
        for color, alpha, cx, cy, rx, ry in ((self.deep * 0.55, 0.65, ox, oy, 0.055 * of, 0.04),
                                             (self.deep, 0.28, wx, wy, 0.045, 0.075)):
            at, X, Y = self.around(cx, cy, rx, ry)
            self.lay(color, alpha * _bump(X / rx, Y / ry), at)

    def eye(self, side):
        f, (ex, ey, ef), deep, lx = self.f, self.eyes[side], self.deep, self.light[0]
        wide, high = (0.122 + 0.014 * f.eye_size) * (0.25 + 0.75 * ef), 0.061 + 0.021 * f.eye_size
        at, X, Y = self.around(ex, ey, wide * 1.2, 0.2)
        v, shade = X / wide, self.shade[at]
        v2, Y = v * v, Y + 0.012 * side * v                                        # outer corners are a little higher
        arch = np.maximum(1 - v2, 0)
        lid = -high * np.sqrt(arch + 1e-4) * (0.55 + 0.45 * arch)
        floor = high * (0.72 - 0.22 * np.maximum(f.smile, 0)) * arch
        opening = self.band(Y, lid, floor) * _smooth(1.1, 0.9, v2)
        white = (0.90 - 0.30 * _smooth(0.035, -0.01, Y - lid) - 0.18 * v2) * (0.66 + 0.34 * shade)
        self.lay(white * _rgb(1, .965, .935), opening, at)
        X = X - 0.036 * f.gaze * ef - 0.012 * self.s
        r = np.sqrt((X / (0.30 + 0.70 * ef)) ** 2 + Y * Y)
        ring = _mix(1.10, 0.50, _smooth(0.03, 0.066, r)) - 0.25 * _smooth(0.02, -0.05, Y)
        self.lay(_palette("iris", f.eye_color) * ring, self.edge(r - 0.065) * opening, at)
        self.lay(np.float32(0.03), self.edge(r - 0.030) * opening, at)
        self.lay(np.float32(1), 0.85 * _bump((X - 0.030 * lx - 0.004) / 0.034, (Y + 0.024) / 0.034) * opening, at)
        lash = _stroke(Y - lid + 0.006, 0.028) * _smooth(1.25, 0.9, v2) * (0.87 + 0.13 * np.clip(side * v, -1, 1))
        self.lay(_mix(deep, np.float32(0.05), 0.7), 0.85 * lash, at)
        fold = _stroke(Y - lid + 0.054, 0.028, 1) * _smooth(1.3, 0.6, v2)
        under = _stroke(Y - floor - 0.012, 0.028, 1) * _smooth(1.2, 0.7, v2)
        self.lay(deep, 0.38 * fold + 0.28 * under, at)

    def brow(self, side):
        bx, by, bf = self.on_face(side * (self.eye_x + 0.012), -0.258 - 0.043 * self.f.brow_height, 0.02)
        wide = 0.162 * (0.25 + 0.75 * bf)
        at, X, Y = self.around(bx, by, wide * 1.1, 0.13)
        out = side * X / wide                                           # -1 at the inner end, 1 at the outer
        middle = 0.030 * (out + 0.1) ** 2 - 0.010 - 0.045 * self.f.brow_angle * out
        brow = _smooth(0.020, -0.020, np.abs(Y - middle) - 0.006 - 0.028 * _smooth(1.2, -0.2, out))
        self.lay(self.hair * 0.62 + self.deep * 0.14, 0.74 * (brow * _smooth(1.08, 0.7, out * out)), at)

    def ear(self, side):
        facing = -side * self.f.turn
        wide = 0.052 + 0.05 * np.maximum(facing, 0)
        ax, ay, _ = self.place(side * self.W, 0.02, -0.02)
        at, X, Y = self.around(ax + side * 0.02, ay, wide * 1.3, 0.16)
        u, v = X / wide, Y / 0.13
        light = np.clip(0.52 + 0.38 * self.lit(1.2 * u, 0.3 * v) - 0.32 * _bump(u / 0.6, v / 0.6), 0, 1)
        seen = self.edge((np.sqrt(u * u + v * v) - 1) * 0.06) * _smooth(-0.75, -0.2, facing) * (1 - self.over_ears)
        self.lay(_mix(self.deep, self.skin * _rgb(1, .94, .92), light), seen, at)

    def hair_in_front(self):
        hair = np.minimum(self.edge(self.hair_d), _smooth(0.016, -0.026, self.crown)) * (1 - self.shaved)
        stubble = _smooth(0.06, -0.06, self.cap) * self.edge(np.maximum(self.hair_d, self.d))
        stubble = stubble * self.shaved * (0.15 + 0.45 * self.f.hair_volume)
        self.lay(self.hair_picture * (0.80 + 0.20 * _smooth(0.0, -0.08, self.crown)), hair + stubble)

    def spectacles(self):
        if not self.f.glasses.any():
            return
        at, X, Y = self.around(0, 0, 0.72, 0.3)
        gx, gy, _ = self.place(0, -0.075, _DEPTH + 0.04)
        frame, glare = _stroke(Y - gy - 0.3 * (X - gx) ** 2, 0.022) * (np.abs(X - gx) < 0.06), 0
        for side in (-1, 1):
            gx, gy, gf = self.place(side * (self.eye_x + 0.005), -0.055, _DEPTH + 0.02)
            wide = 0.185 * (0.2 + 0.8 * gf)
            u, v = (X - gx) / wide, (Y - gy) / 0.150
            rim = (np.sqrt(np.sqrt((u * u) ** 2 + (v * v) ** 2)) - 1) * 0.15
            glare = glare + self.edge(rim) * (0.5 + 0.5 * _wave(1.6 * (u - v) + 0.3 * self.light[0]))
            hinge, ear = gx + side * wide, self.place(side * self.W * 0.98, -0.07, 0.0)[0]
            arm = _stroke(Y - gy + 0.04, 0.024) * ((side * (X - hinge) > 0) & (side * (ear - X) > 0))
            frame = np.maximum.reduce([frame, _stroke(rim, 0.026), arm])
        self.lay(np.float32(1), 0.10 * glare * self.f.glasses, at)
        self.lay(_rgb(.10, .075, .07) + 0.08 * self.shade[at], 0.90 * frame * self.f.glasses, at)


def sample(n, generator):
    """Factors of n faces, independent of each other: a dict of float32 arrays (n,)."""
    u = generator.random((n, len(FACTORS)))
    return {name: np.asarray(factor.sample(u[:, k]), np.float32) for k, (name, factor) in enumerate(FACTORS.items())}


def render(factors, size=64, chunk=32):
    """Faces of these factors (a dict of float32 arrays (n,)) as uint8 pixels (n,3,size,size)."""
    pixels = np.empty((len(factors["skin"]), 3, size, size), np.uint8)
    # like with like: what no face of a chunk wears is not painted, and windows around features are small
    order = np.lexsort([factors["turn"], factors["glasses"], factors["beard"] > 0, factors["hair_style"]])

    def one(part):
        pixels[part] = _Portraits({name: value[part, None, None] for name, value in factors.items()}, size).paint()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, (order[start:start + chunk] for start in range(0, len(order), chunk))))
    return pixels

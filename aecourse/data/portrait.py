"""Synthetic portraits: factors in, color images of faces out.

A head is an ellipsoid that is turned (yaw), nodded (pitch) and tilted (roll), its features are
points on it that are projected. The gradient of a height field (nose, eye sockets, cheeks, chin)
gives the shading. Shapes are signed distances, anti-aliased over one pixel. Pixels are computed
with + - * / sqrt, floor and comparisons only, which IEEE 754 rounds in exactly one way: the same
factors give the same bytes on every machine.
"""

import tomllib
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np

VERSION = 1  # of the pixels, part of the cache's name: raise it with every change of them
Factor = namedtuple("Factor", "low high meaning neutral sample")  # sample(u): u uniform in [0, 1)
_TABLES = tomllib.loads(Path(__file__).with_name("tables").joinpath("portrait.toml").read_text())
_DISTRIBUTIONS = {  # as functions of u, uniform in [0, 1)
    "uniform": lambda u: u,
    "signed": lambda u: 2 * u - 1,
    "central": lambda u: 0.4 * (2 * u - 1) + 0.6 * (2 * u - 1) ** 3,
    "in 25 percent": lambda u: np.maximum(u - 0.75, 0) / 0.25,  # 0 in the others
    "in 30 percent": lambda u: np.maximum(u - 0.7, 0) / 0.3,
    "in 40 percent": lambda u: np.maximum(u - 0.6, 0) / 0.4,
    "square": lambda u: u * u,
    "rather low": lambda u: (u + u * u) / 2,
    "dark": lambda u: 0.6 * u + 0.4 * u**3,
    "brown": lambda u: 0.4 * u + 0.6 * u * u,
    "smiling": lambda u: 1 - 1.5 * u**1.5,
    "yes or no": lambda u: u > 0.78,
    "styles": lambda u: np.digitize(u, [0.5, 0.75, 0.88]),
}
_ZOOM, _PIVOT, _DEPTH = 1.11, 0.6, 0.44  # of the frame; height of the neck's joint; of the face
FACTORS = {k: Factor(*row, _DISTRIBUTIONS[key]) for k, (*row, key) in _TABLES["factors"].items()}


def _rgb(*channels):
    return np.array(channels, np.float32).reshape(3, -1, 1, 1)


def _palette(name, t):
    """Colors (3, n, 1, 1) at the positions t (n, 1, 1) in [0, 1] along a scale."""
    scale = np.array(_TABLES["colors"][name])
    at = t.ravel().astype(float) * (len(scale) - 1)
    return _rgb(*(np.interp(at, range(len(scale)), channel) for channel in scale.T))


def _mix(a, b, t):
    return a + (b - a) * t


def _smooth(low, high, t):
    """Smoothstep: 0 at `low`, 1 at `high`, constant beyond; it falls where high < low."""
    t = np.clip((t - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _bump(*coordinates):
    """1 at the origin, 0 from radius 1 on, smooth."""
    return np.maximum(1 - sum(u * u for u in coordinates), 0) ** 2


def _wave(t):
    """A polynomial in place of a sine: period 1, values in [-1, 1]."""
    t = t - np.floor(t)
    return 1 - 32 * (t * (1 - t)) ** 2


def _stroke(distance, width, ink=1.1):
    """Coverage by a soft line where `distance` is 0; its middle is solid where ink > 1."""
    return np.clip(ink - np.abs(distance) / width, 0, 1)


class _Portraits:
    """n faces. Fields are (n, rows, columns), colors (3, n, 1, 1); x points right, y down."""

    def __init__(self, factors, size):
        self.f = f = SimpleNamespace(**factors)
        self.size, self.pixel = size, np.float32(2 / size / _ZOOM)
        axis = (np.arange(size, dtype=np.float32) + np.float32(0.5 - size / 2)) * self.pixel
        self.bx, self.by = axis[None, None, :], axis[None, :, None] + np.float32(0.045)  # upright
        angles = (f.turn, 30), (f.nod, 9), (f.tilt, 9)
        pose = [t.astype(float) * (degrees * np.pi / 180) for t, degrees in angles]
        self.s, self.sn, self.sr = np.float32(np.sin(pose))
        self.c, self.cn, self.cr = np.float32(np.cos(pose))
        self.x = self.cr * self.bx + self.sr * (self.by - _PIVOT)  # tilted with the head
        self.y = self.cr * (self.by - _PIVOT) - self.sr * self.bx + _PIVOT
        length = np.sqrt((0.85 * f.light) ** 2 + 0.42**2 + 0.62**2)
        self.light = 0.85 * f.light / length, -0.42 / length, 0.62 / length
        self.skin = _palette("skin", f.skin) + f.undertone * _rgb(0.002, 0.020, -0.030)
        self.shadow = self.skin * _rgb(0.55, 0.43, 0.40)  # shadows on skin are warm, not gray
        self.hair = _mix(_palette("hair", f.hair_color), _rgb(0.68, 0.67, 0.67), 0.95 * f.gray)
        self.curly, self.tied, self.shaved = (np.float32(f.hair_style == k) for k in (1, 2, 3))
        backdrop = 1.10 - 0.20 * (self.bx - 0.7 * f.light) ** 2 - 0.14 * (self.by + 0.5) ** 2
        texture = 0.03 * _wave(0.7 * self.bx + 0.4 * self.by + f.strands)
        backdrop = backdrop + texture * _wave(0.6 * self.by - 0.3 * self.bx + 1.7 * f.strands)
        self.canvas = _palette("wall", f.background) * _mix(0.40, 1.06, f.brightness) * backdrop

    def inside(self, distance):
        """Coverage of a pixel at this signed distance from an outline, negative inside."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def between(self, Y, top, bottom):
        """Coverage of pixels at height Y by what lies between two curves, however thin it is."""
        return np.maximum(self.inside(Y - bottom) - self.inside(Y - top), 0)

    def project(self, X, Y, Z):
        """A point of the head on the screen: x, y, and the foreshortening there, at most 1."""
        facing = Z * self.c - X * self.s
        foreshortening = np.clip((facing + 0.06) / 0.42, 0.12, 1)
        return X * self.c + Z * self.s, Y * self.cn + facing * self.sn, foreshortening

    def on_face(self, X, Y, out=0.0):
        """The projection of a point of the face's surface, or `out` in front of it."""
        depth = _DEPTH * np.sqrt(np.maximum(1 - (X / 0.58) ** 2 - Y * Y, 0.05))
        return self.project(X, Y, depth + out)

    def window(self, cx, cy, rx, ry):
        """Slices of the pixels that an ellipse (rx, ry) can touch; coordinates from its center."""
        at, cr, sr, half = (...,), self.cr, self.sr, self.size / 2
        row, column = sr * cx + cr * (cy - _PIVOT) + _PIVOT - 0.045, cr * cx - sr * (cy - _PIVOT)
        height, width = np.abs(cr * ry) + np.abs(sr * rx), np.abs(cr * rx) + np.abs(sr * ry)
        for middle, reach in (row, height), (column, width):
            low, high = (middle - reach).min() / self.pixel, (middle + reach).max() / self.pixel
            first, last = int(np.floor(low) - 1 + half), int(np.ceil(high) + 1 + half)
            at += (slice(max(first, 0), max(last, 0)),)
        return at, self.x[at] - cx, self.y[at] - cy

    def add_bump(self, field, height, cx, cy, rx, ry):
        at, X, Y = self.window(cx, cy, rx, ry)
        field[at] += height * _bump(X / rx, Y / ry)

    def blend(self, color, alpha, at=...):
        """Alpha compositing of a color over the canvas."""
        self.canvas[at] += alpha * (color - self.canvas[at])

    def gradient(self, h):
        """Of a height field (n, rows, columns): (2, n, rows, columns), horizontal and vertical."""
        rise = np.zeros((2, *h.shape), h.dtype)
        rise[0, :, :, 1:-1], rise[1, :, 1:-1] = h[:, :, 2:] - h[:, :, :-2], h[:, 2:] - h[:, :-2]
        return rise / (2 * self.pixel)

    def diffuse(self, gx, gy):
        """Diffuse shading in [0, 1] of a surface with this gradient, with some wrapped light."""
        lx, ly, lz = self.light
        cosine = (lz - gx * lx - gy * ly) / np.sqrt(1 + gx * gx + gy * gy)
        return np.clip((cosine + 0.35) / 1.35, 0, 1)

    def paint(self):
        """The images, uint8 (n, 3, size, size), painted from back to front."""
        for part in (self.head, self.hair_behind, self.body, self.face, self.beard, self.mouth):
            part()
        for part in (self.nostril, self.eye, self.brow, self.ear):
            part(-1)
            part(1)
        self.hair_in_front()
        self.spectacles()
        return (np.clip(self.canvas, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8).swapaxes(0, 1)

    def head(self):
        """The outline (q < 0 inside, d: signed distance), and U, V: from ear to ear, and height."""
        f, x, s = self.f, self.x, self.s
        self.W, chin = 0.50 + 0.052 * f.face_width, 0.735 - 0.02 * f.face_width
        down = self.y - (0.02 + 0.06 * f.nod)  # from the height where the head is widest
        t = down / np.where(down > 0, chin, np.float32(0.70))
        t2, jaw = t * t, np.where(down > 0, 0.25 + 0.50 * f.jaw, np.float32(0.2))
        self.cx = s * (0.19 * np.where(down > 0, t2, np.float32(0)) - 0.03)
        X, steep = (x - self.cx) / self.W, 2 * t * (1 - jaw) + 4 * jaw * t * t2
        self.q = X * X + t2 * (1 - jaw + jaw * t2) - 1
        squared = 4 * X * X / (self.W * self.W) + steep * steep / (chin * chin) + 0.05
        self.d = self.q / np.sqrt(squared)
        sx = np.clip(x / self.W, -1, 1)
        self.U, self.V = sx * self.c - np.sqrt(1 - sx * sx) * s, self.y - 0.10 * f.nod

    def hair_behind(self):
        """Hair behind the head; signed distances to that in front (`cap`: above the forehead)."""
        f, y, V, phase, curly = self.f, self.y, self.V, self.f.strands, self.curly
        loose, grown = 1 - self.tied, 1 - self.shaved
        length = f.hair_length * loose * grown
        volume = (f.hair_volume * (1 - 0.7 * self.tied) + 0.45 * curly) * grown
        long = _smooth(0.1, 0.5, length + 0.4 * curly)
        self.over_ears = _smooth(0.12, 0.35, length + 0.35 * curly)
        hx = self.x + 0.10 * self.s - 0.06 * f.parting * np.maximum(-y, 0)
        wide = self.W + 0.025 + 0.02 * long + volume * _mix(0.035, 0.11, long) - 0.01 * self.shaved
        high, end = 0.72 + 0.03 * grown + 0.13 * volume, _mix(0.06 + 0.12 * curly, 1.35, length)
        below = y > -0.02
        t, X = (y + 0.02) / np.where(below, end, high), hx / wide
        t2, sx = t * t, np.clip(X, -1, 1)
        q = X * X + np.where(below, t2 * t2 * t2, t2 * (0.8 + 0.2 * t2)) - 1
        steep = np.where(below, 6 * t2 * t2 * t / end, 2 * t / high)
        U = sx * self.c - np.sqrt(1 - sx * sx) * self.s
        fan = (U - 0.5 * f.parting) / (V + 1.9)
        coarse = _wave(5 * fan + 0.3 * _wave(0.9 * V + phase) + phase * 3)
        fine = _wave(11 * fan + 0.35 * _wave(1.7 * V + 2 * phase) + phase * 7)
        angle = hx / (np.abs(hx) + np.abs(y + 0.1) + 1e-3)  # a substitute for arctan
        angle = np.where(y < -0.1, angle, np.where(hx > 0, 2 - angle, -2 - angle))
        lumps = 0.6 * _wave(3.2 * angle + 3 * phase + y)
        lumps = lumps + 0.4 * _wave(5.3 * angle - 2.1 * y + phase)
        q += 0.10 * curly * lumps
        curls = _wave(2.7 * U + 0.5 * _wave(1.9 * V + phase) + phase)
        curls = curls * _wave(2.9 * V + 0.5 * _wave(1.7 * U + 2 * phase))
        self.strands = _mix(0.6 * coarse + 0.4 * fine, 1.3 * curls, curly)
        distance = q / np.sqrt(4 * X * X / (wide * wide) + steep * steep + 0.05)
        self.hair_d = np.maximum(distance, y - end)
        light = self.diffuse(*self.gradient(0.5 * np.sqrt(np.maximum(-q, 0) + 0.04)))
        band = _bump((V + 0.46 - 0.16 * U * U - 0.03 * self.strands) / 0.20) * (1 - 0.5 * curly)
        groove = _bump((U - 0.5 * f.parting) / 0.07) * _smooth(-0.3, -0.5, V) * (1 - curly) * loose
        tone = 0.46 + 0.60 * light + 0.11 * self.strands
        tone = tone + 0.30 * band * (0.3 + 0.7 * light) - 0.22 * groove
        self.hair_colors = self.hair * tone + 0.05 * band * light * grown
        self.blend(self.hair_colors * 0.70, self.inside(self.hair_d) * grown)
        r, cx, cy = 0.15 + 0.08 * f.hair_volume, 0.25 * f.parting - 0.14 * self.s, -high - 0.02
        bun = self.inside(np.sqrt((self.x - cx) ** 2 + (y - cy) ** 2) - r) * self.tied
        self.blend(self.hair_colors * 0.95, bun)
        across, off = np.abs(self.U), np.abs(self.U - 0.5 * f.parting)  # of the hair in front
        free, loose = (1 - f.fringe) * (1 - 0.6 * self.tied), loose * grown
        parted = -0.55 + 0.06 * self.tied + (0.16 * loose + 0.12 * off) * off
        line = _mix(-0.22 - 0.02 * off * off, parted, free)
        line = line + 0.03 * _mix(1, 0.4, free) * self.strands * loose
        line = line + 0.75 * np.maximum(across - 0.72, 0)
        self.cap = (V - line) * 0.85
        sides = np.minimum((0.90 - across) * self.W, -self.d)
        temple, low = 0.37 - np.abs(self.x - self.cx), (V - _mix(-0.04, 2.0, self.over_ears)) * 0.8
        self.crown = np.minimum(self.cap, np.maximum.reduce([sides, temple, low]))

    def body(self):
        f, rows, lx = self.f, np.s_[..., int(0.55 * self.size) :, :], self.light[0]
        bx, by, d = self.bx - 0.05 * self.s, self.by[rows], self.d[rows]
        wide = 0.26 + 0.02 * f.face_width + 0.025 * f.jaw + 0.12 * _smooth(0.7, 1.0, by)
        below_chin = _mix(0.42, 1, _smooth(-0.02, 0.30, d - 0.08 * lx * bx))
        light = self.diffuse(1.5 * bx / wide, np.float32(0.1)) * below_chin
        self.blend(_mix(self.shadow, self.skin, light), self.inside(np.abs(bx) - wide), rows)
        opening = (1 - (bx / 0.33) ** 2 - ((by - 0.74) / 0.13) ** 2) * 0.08
        folds = 0.05 * _wave(1.3 * bx + 0.7 * by + f.strands)
        shade = 0.84 + folds + 0.25 * lx * bx - 0.22 * _smooth(-0.05, 0, opening)
        shoulders = np.maximum(0.77 + 0.32 * bx * bx - by, opening)
        self.blend(_palette("cloth", f.clothes) * shade, self.inside(shoulders), rows)

    def face(self):
        f, x, y, zero, (lx, ly, lz) = self.f, self.x, self.y, np.float32(0), self.light
        self.eye_x = 0.215 + 0.034 * f.eye_distance + 0.02 * f.face_width
        self.eyes = {side: self.on_face(side * self.eye_x, -0.07, -0.03) for side in (-1, 1)}
        self.nose_w, self.tip_y = 0.116 + 0.034 * f.nose, 0.220 + 0.032 * f.nose
        bx, by, _ = self.on_face(zero, -0.10, 0.01)
        tx, ty, _ = self.on_face(zero, self.tip_y, 0.115 + 0.04 * f.nose)
        self.mouth_at = mx, my, _ = self.on_face(zero, 0.435, 0.035)
        relief = _DEPTH * 1.05 * np.sqrt(np.maximum(-self.q, 0) + 0.03)
        blush, wrinkles = np.zeros_like(relief), np.zeros_like(relief)
        w = np.clip((y - by) / (ty - by), 0, 1)  # 0 at the root of the nose, 1 at its tip
        ridge, side_x = _mix(bx, tx, w), lambda k: self.on_face(k * self.nose_w, self.tip_y)[0]
        left, right = (_mix(bx + k * 0.075, side_x(k), w * w) for k in (-1, 1))
        width = np.where(x < ridge, np.maximum(ridge - left, 0.03), np.maximum(right - ridge, 0.03))
        nose = (0.095 + 0.01 * f.nose) * (0.22 + 0.78 * w) * _bump((x - ridge) / width)
        relief += nose * _smooth(by - 0.12, by + 0.08, y) * _smooth(ty + 0.09, ty, y)
        self.add_bump(relief, 0.022, tx, ty, 0.095, 0.09)
        for side, (ex, ey, ef) in self.eyes.items():
            self.add_bump(relief, -0.050, ex, ey - 0.01, 0.20 * ef + 0.02, 0.15)
            self.add_bump(relief, 0.024, ex, ey - 0.17, 0.24 * ef + 0.02, 0.12)
            kx, ky, kf = self.on_face(side * 0.27, 0.20 - 0.03 * f.smile)
            self.add_bump(relief, 0.045 + 0.018 * f.smile, kx, ky, 0.26 * kf + 0.02, 0.24)
            kx, ky, kf = self.on_face(side * 0.29, 0.20)
            self.add_bump(blush, 0.32 + 0.5 * f.makeup, kx, ky, 0.24 * kf + 0.02, 0.20)
            at, X, Y = self.window(*self.on_face(side * 0.21, 0.37)[:2], 0.14, 0.17)
            folds = 0.06 + 0.18 * np.maximum(f.smile, 0) + 0.50 * f.age
            wrinkles[at] += folds * _bump((X - side * 0.25 * Y) / 0.05, Y / 0.17)
            self.add_bump(wrinkles, 0.55 * f.age, ex, ey + 0.11, 0.15 * ef, 0.045)
        self.add_bump(relief, 0.035, *self.on_face(zero, 0.66, 0.02)[:2], 0.20, 0.14)
        self.add_bump(relief, 0.030, mx, my, 0.24, 0.16)
        self.add_bump(relief, -0.018, mx, my + 0.125, 0.17, 0.06)
        self.add_bump(blush, 0.2, tx, ty, 0.13, 0.12)
        at, X, Y = self.window(bx, by - 0.27, 0.32, 0.14)
        lines = np.maximum(_wave((Y + 0.1 * X * X) * 10), 0)
        wrinkles[at] += 0.50 * f.age * _bump(X / 0.32, Y / 0.14) * lines
        gx, gy = 0.85 * self.gradient(relief)
        shade = self.diffuse(gx, gy)
        for side, (ex, ey, ef) in self.eyes.items():  # ambient occlusion
            self.add_bump(shade, -0.12, ex - side * 0.05, ey - 0.05, 0.20 * ef, 0.12)
        self.add_bump(shade, -0.20, tx - 0.06 * lx, ty + 0.09, 0.15, 0.07)
        self.add_bump(shade, -0.10, mx, my + 0.125, 0.17, 0.05)
        self.shade = shade = np.clip(shade, 0, 1)
        half = np.sqrt((1 + gx * gx + gy * gy) * (lx * lx + ly * ly + (lz + 1) ** 2))
        specular = (((np.maximum((lz + 1 - gx * lx - gy * ly) / half, 0) ** 2) ** 2) ** 2) ** 2
        color = _mix(self.shadow, self.skin * 1.03, shade) + (0.09 + 0.05 * f.skin) * specular
        color *= 1 - blush * _rgb(-0.02, 0.20, 0.22)
        color += np.minimum(wrinkles, 1) * (self.shadow - color)
        hair_shadow = 0.5 * _smooth(0.10, -0.02, self.crown) * (1 - 0.7 * self.shaved)
        color += hair_shadow * (0.9 * self.shadow - color)
        self.blend(color, self.inside(self.d))

    def beard(self):
        f, u, v, (mx, my, mf) = self.f, self.U, self.V, self.mouth_at
        X, Y = self.x - mx, self.y - my
        bristle = 0.4 * _wave(9 * u + 3 * f.strands) * _wave(8 * v + 0.6 * _wave(4 * u))
        bristle = 0.6 * self.strands + bristle
        cheek = 0.36 - 0.6 * np.maximum(np.abs(u) - 0.5, 0) - 3 * np.maximum(np.abs(u) - 0.86, 0)
        cover = _smooth(-0.08, 0.10, v - np.maximum(cheek, 0.02) + 0.02 * bristle)
        cover = cover * (1 - np.minimum(1.7 * _bump(X / (0.21 * mf), (Y - 0.01) / 0.12), 1))
        mustache = 1.5 * _bump(X / (0.25 * mf), (Y + 0.08 + 1.5 * X * X) / 0.075)
        cover = np.maximum(cover, np.minimum(mustache, 1))
        density = np.minimum(0.22 + 0.85 * f.beard, 0.92) * _smooth(0, 0.1, f.beard)
        cover = cover * _smooth(0.02, -0.02, self.d - 0.05 * f.beard) * density
        color = self.hair * (0.36 + 0.46 * self.shade + 0.13 * bristle)
        self.blend(color, cover * (0.90 + 0.10 * bristle))

    def mouth(self):
        f, (mx, my, mf) = self.f, self.mouth_at
        wide = 0.165 + 0.048 * f.mouth_width + 0.035 * np.maximum(f.smile, 0)
        wide = wide * _mix(1, mf, 0.8) * self.c
        at, X, Y = self.window(mx, my, wide * 1.25, 0.22)
        v = X / wide
        v2 = np.minimum(v * v, 1.5)
        taper, full = np.maximum(1 - v2, 0), 1 + 0.42 * f.lips
        gap = 0.075 * f.mouth_open * taper
        line = 0.01 - np.where(f.smile > 0, 0.085 * f.smile, 0.055 * f.smile) * (v2 - 0.35)
        above, below = line - 0.3 * gap, line + 0.7 * gap
        upper = above - 0.050 * full * taper * (1 - 0.25 * _bump(v / 0.28)) - 0.004
        lower = below + 0.066 * full * np.sqrt(taper + 1e-4) * taper
        rouge = _rgb(0.70, 0.15, 0.20) * _mix(1.05, 0.75, f.skin)
        color = _mix(self.skin * _rgb(0.90, 0.62, 0.58), rouge, 0.05 + 0.75 * f.makeup)
        shade = (0.64 + 0.42 * self.shade[at]) * (1 + 0.10 * _smooth(-0.03, 0.03, Y - line))
        specular = _bump((v - 0.25 * self.light[0]) / 0.6, (Y - lower + 0.032 * full) / 0.03)
        lips = self.between(Y, upper, lower) * _smooth(1.1, 0.95, v2)
        self.blend(color * shade + 0.10 * specular, lips, at)
        self.blend(_rgb(0.28, 0.10, 0.10), self.between(Y, above, below), at)
        teeth = self.between(Y, above, above + 0.7 * gap)
        self.blend(_rgb(0.95, 0.91, 0.87) * (1 - 0.4 * v2), teeth, at)
        crease = _stroke(Y - line, 0.030, 1) * _smooth(1.2, 0.9, v2) * (1 - _smooth(0, 0.03, gap))
        corner = _bump((np.abs(v) - 1) / 0.22, (Y - line) / 0.045)
        self.blend(self.shadow * 0.6, np.minimum(0.60 * crease + 0.42 * corner, 1), at)

    def nostril(self, side):
        x, y, width = self.on_face(side * (0.055 + 0.014 * self.f.nose), self.tip_y + 0.045, 0.08)
        rx, ry = 0.055 * width, 0.04
        at, X, Y = self.window(x, y, rx, ry)
        self.blend(self.shadow * 0.55, 0.65 * _bump(X / rx, Y / ry), at)
        x, y, _ = self.on_face(side * (self.nose_w - 0.005), self.tip_y + 0.01, 0.02)
        at, X, Y = self.window(x, y, 0.045, 0.075)
        self.blend(self.shadow, 0.28 * _bump(X / 0.045, Y / 0.075), at)

    def eye(self, side):
        f, (ex, ey, ef), shadow, lx = self.f, self.eyes[side], self.shadow, self.light[0]
        wide, high = (0.122 + 0.014 * f.eye_size) * (0.25 + 0.75 * ef), 0.061 + 0.021 * f.eye_size
        at, X, Y = self.window(ex, ey, wide * 1.2, 0.2)
        v, shade = X / wide, self.shade[at]
        v2, Y = v * v, Y + 0.012 * side * v  # outer corners are a little higher
        arch = np.maximum(1 - v2, 0)
        lid = -high * np.sqrt(arch + 1e-4) * (0.55 + 0.45 * arch)
        floor = high * (0.72 - 0.22 * np.maximum(f.smile, 0)) * arch
        opening = self.between(Y, lid, floor) * _smooth(1.1, 0.9, v2)
        white = (0.90 - 0.30 * _smooth(0.035, -0.01, Y - lid) - 0.18 * v2) * (0.66 + 0.34 * shade)
        self.blend(white * _rgb(1, 0.965, 0.935), opening, at)
        X = X - 0.036 * f.gaze * ef - 0.012 * self.s
        r = np.sqrt((X / (0.30 + 0.70 * ef)) ** 2 + Y * Y)
        ring = _mix(1.10, 0.50, _smooth(0.03, 0.066, r)) - 0.25 * _smooth(0.02, -0.05, Y)
        self.blend(_palette("iris", f.eye_color) * ring, self.inside(r - 0.065) * opening, at)
        self.blend(np.float32(0.03), self.inside(r - 0.030) * opening, at)
        reflection = _bump((X - 0.030 * lx - 0.004) / 0.034, (Y + 0.024) / 0.034)
        self.blend(np.float32(1), 0.85 * reflection * opening, at)
        lash = _stroke(Y - lid + 0.006, 0.028) * _smooth(1.25, 0.9, v2)
        lash = lash * (0.87 + 0.13 * np.clip(side * v, -1, 1))
        self.blend(_mix(shadow, np.float32(0.05), 0.7), 0.85 * lash, at)
        fold = _stroke(Y - lid + 0.054, 0.028, 1) * _smooth(1.3, 0.6, v2)
        under = _stroke(Y - floor - 0.012, 0.028, 1) * _smooth(1.2, 0.7, v2)
        self.blend(shadow, 0.38 * fold + 0.28 * under, at)

    def brow(self, side):
        brow_x, brow_y = side * (self.eye_x + 0.012), -0.258 - 0.043 * self.f.brow_height
        bx, by, bf = self.on_face(brow_x, brow_y, 0.02)
        wide = 0.162 * (0.25 + 0.75 * bf)
        at, X, Y = self.window(bx, by, wide * 1.1, 0.13)
        out = side * X / wide  # -1 at the inner end, 1 at the outer
        middle = 0.030 * (out + 0.1) ** 2 - 0.010 - 0.045 * self.f.brow_angle * out
        brow = _smooth(0.020, -0.020, np.abs(Y - middle) - 0.006 - 0.028 * _smooth(1.2, -0.2, out))
        brow = brow * _smooth(1.08, 0.7, out * out)
        self.blend(self.hair * 0.62 + self.shadow * 0.14, 0.74 * brow, at)

    def ear(self, side):
        facing = -side * self.f.turn
        wide = 0.052 + 0.05 * np.maximum(facing, 0)
        ax, ay, _ = self.project(side * self.W, 0.02, -0.02)
        at, X, Y = self.window(ax + side * 0.02, ay, wide * 1.3, 0.16)
        u, v = X / wide, Y / 0.13
        light = 0.52 + 0.38 * self.diffuse(1.2 * u, 0.3 * v) - 0.32 * _bump(u / 0.6, v / 0.6)
        color = _mix(self.shadow, self.skin * _rgb(1, 0.94, 0.92), np.clip(light, 0, 1))
        visible = self.inside((np.sqrt(u * u + v * v) - 1) * 0.06) * _smooth(-0.75, -0.2, facing)
        self.blend(color, visible * (1 - self.over_ears), at)

    def hair_in_front(self):
        hair = np.minimum(self.inside(self.hair_d), _smooth(0.016, -0.026, self.crown))
        stubble = _smooth(0.06, -0.06, self.cap) * self.inside(np.maximum(self.hair_d, self.d))
        stubble = stubble * self.shaved * (0.15 + 0.45 * self.f.hair_volume)
        color = self.hair_colors * (0.80 + 0.20 * _smooth(0.0, -0.08, self.crown))
        self.blend(color, hair * (1 - self.shaved) + stubble)

    def spectacles(self):
        x, y = self.x, self.y
        gx, gy, _ = self.project(0, -0.075, _DEPTH + 0.04)
        frame, glare = _stroke(y - gy - 0.3 * (x - gx) ** 2, 0.022) * (np.abs(x - gx) < 0.06), 0
        for side in (-1, 1):
            gx, gy, gf = self.project(side * (self.eye_x + 0.005), -0.055, _DEPTH + 0.02)
            wide = 0.185 * (0.2 + 0.8 * gf)
            u, v = (x - gx) / wide, (y - gy) / 0.150
            rim = (np.sqrt(np.sqrt((u * u) ** 2 + (v * v) ** 2)) - 1) * 0.15
            reflection = 0.5 + 0.5 * _wave(1.6 * (u - v) + 0.3 * self.light[0])
            glare = glare + self.inside(rim) * reflection
            hinge, ear = gx + side * wide, self.project(side * self.W * 0.98, -0.07, 0.0)[0]
            arm = _stroke(y - gy + 0.04, 0.024) * (side * (x - hinge) > 0) * (side * (ear - x) > 0)
            frame = np.maximum.reduce([frame, _stroke(rim, 0.026), arm])
        self.blend(np.float32(1), 0.10 * glare * self.f.glasses)
        self.blend(_rgb(0.10, 0.075, 0.07) + 0.08 * self.shade, 0.90 * frame * self.f.glasses)


def sample(n: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Factors of n faces, independent of each other: name -> float32 (n,)."""
    u = generator.random((n, len(FACTORS))).T
    return {name: np.float32(f.sample(row)) for row, (name, f) in zip(u, FACTORS.items())}


def render(factors: dict[str, np.ndarray], size: int = 64, chunk: int = 32) -> np.ndarray:
    """Faces as uint8 (n, 3, size, size). factors: name -> float32 (n,), for all of `FACTORS`."""
    starts = range(0, len(factors["skin"]), chunk)
    parts = ({k: v[i : i + chunk, None, None] for k, v in factors.items()} for i in starts)
    with ThreadPoolExecutor(2) as pool:
        painted = pool.map(lambda part: _Portraits(part, size).paint(), parts)
        return np.concatenate([np.empty((0, 3, size, size), np.uint8), *painted])

"""Files in memory: codes packed by LZMA, and images as JPEG, WebP or AVIF on one contact sheet."""

import lzma
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

_LZMA2 = {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 2**20, "lc": 0, "lp": 0, "pb": 0}
_RAW = {"format": lzma.FORMAT_RAW, "filters": [_LZMA2]}  # no header, each byte for itself
_WAYS = {  # of writing one image: the smallest file counts
    "JPEG": [{"optimize": True, "progressive": progressive} for progressive in (False, True)],
    "WEBP": [{"method": 6}],
    "AVIF": [{"speed": 6, "max_threads": 1}],
}


def write_codes(q: Tensor) -> bytes:
    """A file of whole numbers `q (n, k)` from -128 to 127: all first numbers, all second, ...

    Raises ValueError for other numbers, which would come back as different ones.
    """
    columns = q.T.contiguous().cpu().numpy()
    with np.errstate(invalid="ignore"):  # NaN is refused below
        whole = columns.astype(np.int8)
    if not np.array_equal(whole, columns):
        raise ValueError("codes in a file are whole numbers from -128 to 127: round and clamp them")
    return lzma.compress(whole.tobytes(), **_RAW)


def read_codes(file: bytes, k: int) -> Tensor:
    """The numbers `(n, k)` of a file that `write_codes` made, as float32."""
    columns = np.frombuffer(lzma.decompress(file, **_RAW), np.int8).reshape(k, -1)
    return torch.from_numpy(columns.T.astype(np.float32))


def through_image_file(x: Tensor, kind: str, quality: int) -> tuple[int, Tensor]:
    """The bytes of one file of all gray images `x (n, 1, H, W)`, and the images read back from it.

    A small file is mostly header, so all images share one: a contact sheet of tiles whose sides are
    multiples of 8, as JPEG's blocks, filled by continuing the edge.

    kind: "JPEG", "WEBP" or "AVIF". quality: what Pillow calls so, 0 to 100.
    """
    n, _, height, width = x.shape
    columns = max(c for c in range(1, 41) if n % c == 0)
    tiles = F.pad(x.cpu(), (0, -width % 8, 0, -height % 8), mode="replicate")
    rows, tall, wide = n // columns, *tiles.shape[2:]
    sheet = tiles.view(rows, columns, tall, wide).transpose(1, 2).reshape(rows * tall, -1)
    image, files = Image.fromarray((255 * sheet.clamp(0, 1)).round().byte().numpy()), []
    for options in _WAYS[kind]:
        files.append(BytesIO())
        image.save(files[-1], kind, quality=quality, **options)
    file = min(files, key=lambda file: len(file.getvalue()))
    pixels = torch.from_numpy(np.array(Image.open(file).convert("L"))).float() / 255
    tiles = pixels.view(rows, tall, columns, wide).transpose(1, 2)[..., :height, :width]
    return len(file.getvalue()), tiles.reshape(x.shape)

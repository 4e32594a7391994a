"""Pictures with more than 8 bits a channel, as numbers: a 12-bit camera's range is for the user to name, never cut.

Pillow keeps the high byte of 16-bit colour without a word, so such PNG files are read here.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deft_aoi.contract.images import MAX_BYTES, MAX_PIXELS, ImageRefused
from deft_aoi.contract.safe_open import StrPath, open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
"""PNG colour type → samples a pixel: grey, colour, grey with alpha, colour with alpha."""


def read_deep(path: StrPath) -> NDArray[np.uint16]:
    """The values of a 16-bit PNG, or of a grey TIFF of 9 to 16 bits: (height, width) or (height, width, 3), without alpha.

    Raises:
        ImageRefused: a kind that cannot be read without loss, damaged, or over 64 megapixels.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageRefused(path, "is too large", expected=f"at most {MAX_BYTES >> 20} MiB", found="more")
    try:
        return _png(path, data) if data.startswith(_SIGNATURE) else _grey(path, data)
    except ImageRefused:
        raise
    except Exception as error:  # struct.error, zlib.error, OSError, ValueError: all of damaged bytes
        raise ImageRefused(
            path, "cannot be decoded", expected="a whole PNG or TIFF file", found=type(error).__name__, hint="replace the file"
        ) from error


def _grey(path: StrPath, data: bytes) -> NDArray[np.uint16]:
    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("TIFF",))
    if image.mode not in ("I;16", "I;16B", "I;16L") or image.width * image.height > MAX_PIXELS:
        raise ImageRefused(
            path,
            "cannot be scaled to 8 bits",
            expected="a PNG of 16 bits, or a grey TIFF of at most 16",
            found=f"{image.format} of pixel type {image.mode}",
            hint="save it as PNG with 16 bits a channel",
        )
    return np.asarray(image).astype(np.uint16)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + size]
        at += 12 + size


def _png(path: StrPath, data: bytes) -> NDArray[np.uint16]:
    import numpy as np

    body, header = bytearray(), b""
    for kind, content in _chunks(data):
        if kind == b"IHDR":
            header = content
        elif kind == b"IDAT":
            body += content
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 16 or colour not in _SAMPLES or interlaced or not 0 < width * height <= MAX_PIXELS:
        raise ImageRefused(
            path,
            "cannot be scaled to 8 bits",
            expected="a PNG of 16 bits a channel, not interlaced, of at most 64 megapixels",
            found=f"{width} x {height}, {depth} bits, colour type {colour}{', interlaced' if interlaced else ''}",
            hint="save it again without interlacing",
        )
    step = 2 * _SAMPLES[colour]
    rows = _unfiltered(zlib.decompressobj().decompress(bytes(body), height * (1 + width * step)), width * step, height, step)
    values = rows.view(">u2").reshape(height, width, -1).astype(np.uint16)
    return values[..., 0] if values.shape[2] < 3 else values[..., :3]


def _unfiltered(raw: bytes, length: int, height: int, step: int) -> NDArray[np.uint8]:
    """PNG's five row filters undone (ISO/IEC 15948, 9.2)."""
    import numpy as np

    if len(raw) != height * (1 + length):
        raise ValueError("too few rows")
    out = np.empty((height, length), dtype=np.uint8)
    above = np.zeros(length, dtype=np.uint8)
    for y in range(height):
        kind = raw[y * (1 + length)]
        row = np.frombuffer(raw, np.uint8, length, y * (1 + length) + 1)
        if kind == 0:
            done = row
        elif kind == 1:
            done = np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            done = row + above
        elif kind in (3, 4):
            done = np.frombuffer(_sequential(bytearray(row.tobytes()), above.tobytes(), step, kind), np.uint8)
        else:
            raise ValueError("unknown filter")
        out[y] = above = done
    return out


def _sequential(row: bytearray, above: bytes, step: int, kind: int) -> bytearray:
    for x in range(len(row)):
        left, up = row[x - step] if x >= step else 0, above[x]
        if kind == 3:
            guess = (left + up) // 2
        else:
            corner = above[x - step] if x >= step else 0
            by_left, by_up, by_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            guess = left if by_left <= by_up and by_left <= by_corner else up if by_up <= by_corner else corner
        row[x] = (row[x] + guess) & 0xFF
    return row

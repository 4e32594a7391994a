"""The one way to decode an image that came from outside; pre-flight, mining, training and pictures all see the same.

RGB8 as TAO decodes it: no EXIF rotation, no colour management. What TAO would decode without a word into something else
than a person sees (16 bits, several frames) is refused, and so is what no component crop can be (64 megapixels). Size and
kind are known from the header, before a pixel is decoded.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import warnings
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.safe_open import StrPath, open_regular_stat
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image

T = TypeVar("T")

MAX_PIXELS = 64_000_000
"""An AOI crop is below 1 megapixel, a whole-board scan below 64; beyond it a file is a decompression bomb."""

MAX_BYTES = 256 << 20
"""A bitmap of 64 megapixels has 192 MB: no honest file is larger."""

READ_WHOLE_BYTES = 1 << 20
"""A file up to here is read in one go: the decoder's many small reads and seeks cost a crop a fifth of its time."""

FORMATS = ("JPEG", "PNG", "BMP")
"""Decoded whatever the file is called: factories do rename a JPEG to .png, and its pixels are plain."""

OWN_EXTENSION = {".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
"""Decoded only under their own names: containers of many kinds of content should not hide behind ``.png``."""

_OWN = tuple(OWN_EXTENSION)
FORMAT_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", **OWN_EXTENSION}
"""The one list of image suffixes, with the format that each names. Files of other suffixes are no images."""
_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


class ImageRefused(HardStop):
    """An image that is not decoded.

    Attributes:
        path: the file, so that a caller can name the row.
    """

    def __init__(self, path: StrPath, message: str, *, expected: str, found: str, hint: str = "") -> None:
        shown = quoted(os.fspath(path), 200)
        super().__init__(f"the image {shown} {message}", expected=expected, found=found, hint=hint)
        self.path = os.fspath(path)


@functools.cache
def _pillow() -> ModuleType:
    from PIL import Image

    # Pillow warns from 89 megapixels on; by then our own limit has refused the file.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image


class TooDeep(ImageRefused):
    """More than 8 bits a channel."""


def format_of(path: StrPath) -> str | None:
    """The format that the name's suffix, in any case, says; ``None`` for no image."""
    return FORMAT_OF.get(os.path.splitext(path)[1].lower())  # noqa: PTH122


def has_own_extension(path: StrPath) -> bool:
    """Whether the file's name decides if it is decoded."""
    return os.fspath(path).lower().endswith(_OWN)


Stamp = tuple[int, int, int, int]
"""size_bytes, mtime_ns, ctime_ns, inode: a file with the same stamp is taken to be unchanged."""


def stamp_of(info: os.stat_result) -> Stamp:
    """The stamp in a stat result; some file systems use all 64 bits of an inode number, tables have 63."""
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino & 0x7FFF_FFFF_FFFF_FFFF


class FileBytes(NamedTuple):
    """The bytes of a file as they were read: their SHA-256, and the file's stamp from before that.

    A file that changed meanwhile has another stamp by now, so what is remembered under this one is not found again.
    """

    sha256: bytes
    stamp: Stamp


def open_image(path: StrPath) -> Image:
    """Open and decode an image as RGB8.

    Args:
        path: a regular file; never a symbolic link.

    Returns:
        The decoded image, detached from its file, without metadata that would change its pixels.

    Raises:
        ImageRefused: a link (symbolic or hard), a folder, device or FIFO; not a whole PNG, JPEG or BMP (TIFF and WebP
            under their own extension); animated; 16 bits a channel; over 64 megapixels or 256 MiB.
        FileNotFoundError: there is no such file.
    """
    fd, info = _open_file(path)
    try:
        if info.st_size <= READ_WHOLE_BYTES:
            return _decode(path, io.BytesIO(_read_all(fd, info.st_size)))
        with os.fdopen(fd, "rb", closefd=False) as file:
            return _decode(path, file)
    finally:
        os.close(fd)


def decode_image(data: bytes, name: str) -> Image:
    """Decode the bytes of an image file as RGB8; ``name`` is for the error. Raises as :func:`open_image` does."""
    return _decode(name, io.BytesIO(data))


def read_image_file(path: StrPath) -> FileBytes:
    """Digest the file of an image without decoding it. Raises like :func:`open_image`, but for what only decoding tells."""
    fd, info = _open_file(path)
    try:
        return _digest(fd, info)[0]
    finally:
        os.close(fd)


def open_digested(path: StrPath, known: Callable[[bytes], T | None]) -> tuple[FileBytes, T | Image]:
    """Digest an image's file and decode those very bytes, unless ``known`` has an answer for them. Raises as above."""
    fd, info = _open_file(path)
    try:
        seen, data = _digest(fd, info)
        answer = known(seen.sha256)
        if answer is not None:
            return seen, answer
        if data is not None:
            return seen, _decode(path, io.BytesIO(data))
        os.lseek(fd, 0, os.SEEK_SET)
        with os.fdopen(fd, "rb", closefd=False) as file:
            return seen, _decode(path, file)
    finally:
        os.close(fd)


def _open_file(path: StrPath) -> tuple[int, os.stat_result]:
    try:
        fd, info = open_regular_stat(path)
    except HardStop as error:
        raise ImageRefused(path, "is not a regular file", expected="a real image file", found=error.found) from error
    try:
        _check_file(path, info)
    except ImageRefused:
        os.close(fd)
        raise
    return fd, info


def _read_all(fd: int, size: int) -> bytes:
    """The file from its begin to its end, which one call gives as a rule: one byte more is asked for than it has."""
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while data:
        data = os.read(fd, READ_WHOLE_BYTES)
        parts.append(data)
    return b"".join(parts)


def _digest(fd: int, info: os.stat_result) -> tuple[FileBytes, bytes | None]:
    """Digest and stamp, and the bytes of a file that is small enough to be held."""
    data = None
    if info.st_size <= READ_WHOLE_BYTES:
        data = _read_all(fd, info.st_size)
        sha = hashlib.sha256(data).digest()
    else:
        whole = hashlib.sha256()
        while chunk := os.read(fd, READ_WHOLE_BYTES):
            whole.update(chunk)
        sha = whole.digest()
    return FileBytes(sha, stamp_of(info)), data


def _decode(path: StrPath, handle: IO[bytes]) -> Image:
    pillow = _pillow()
    own = OWN_EXTENSION[os.path.splitext(path)[1].lower()] if has_own_extension(path) else None  # noqa: PTH122
    try:
        # The handle is the caller's to close, so no ``with``; a decoded image has let go of it.
        image: Image = pillow.open(handle, formats=(*FORMATS, own) if own else FORMATS)
        _check_header(path, image)
        if image.mode != "RGB":
            return image.convert("RGB")
        image.load()
        return image
    except ImageRefused:
        raise
    except pillow.DecompressionBombError as error:
        raise _too_large(path, quoted(error, 120)) from error
    except Exception as error:  # Pillow raises many types on damaged bytes: OSError, SyntaxError, struct.error, …
        raise ImageRefused(
            path,
            "cannot be decoded",
            expected="a whole PNG, JPEG or BMP file (TIFF or WebP under its own extension)",
            found="no image of these kinds" if isinstance(error, pillow.UnidentifiedImageError) else quoted(error, 120),
            hint="replace the file or remove its row",
        ) from error


def _check_file(path: StrPath, stat: os.stat_result) -> None:
    if stat.st_nlink > 1:
        raise ImageRefused(
            path,
            "has a second name (a hard link)",
            expected="a file of its own: what another name can change may change in the middle of a run",
            found=f"{stat.st_nlink} names for one file",
            hint="copy the data into the workspace without links (cp -r, not cp -l)",
        )
    if stat.st_size > MAX_BYTES:
        raise _too_large(path, f"{stat.st_size} bytes")


def _too_large(path: StrPath, found: str) -> ImageRefused:
    expected = f"at most {MAX_PIXELS // 1_000_000} megapixels and {MAX_BYTES >> 20} MiB"
    return ImageRefused(path, "is too large", expected=expected, found=found, hint="crop it to the component")


def _check_header(path: StrPath, image: Image) -> None:
    """Judge by the header alone: size, depth, number of frames."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, f"{image.width} x {image.height} pixels")
    deep = bits_per_channel(image)
    if image.mode not in _MODES or deep > 8:
        raise TooDeep(
            path,
            "has more than 8 bits a channel",
            expected="8 bits a channel: TAO cuts the rest off, which leaves white where there was detail",
            found=f"pixel type {image.mode}, {deep} bits a channel" if deep > 8 else f"pixel type {image.mode}",
            hint="convert it to 8 bits with the range that shows the part (make_workspace.py --bit-depth does)",
        )
    if _is_animated(image):
        raise ImageRefused(path, "has several frames", expected="one still picture", found="an animated or multi-page file")


def bits_per_channel(image: Image) -> int:
    """Bits a channel in the file: Pillow opens 16-bit colour as 8-bit modes and keeps the high byte without a word."""
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, 8)
        return int(max(bits) if isinstance(bits, tuple) else bits)
    if image.format == "PNG" and any("16" in str(part) for tile in getattr(image, "tile", ()) for part in _as_tuple(tile[3])):
        return 16
    return 8


def _as_tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_animated(image: Image) -> bool:
    if image.format == "TIFF":  # counting the pages walks a chain that the file itself describes; the second one decides
        try:
            image.seek(1)
        except EOFError:
            image.seek(0)
            return False
        return True
    return image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1

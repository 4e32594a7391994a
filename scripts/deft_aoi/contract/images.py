"""The one way to decode an image that came from outside; pre-flight, mining, training and pictures all see the same.

RGB8 as TAO decodes it: no EXIF rotation, no colour management. What TAO would decode without a word into something else
than a person sees (16 bits, several frames) is refused, and so is what no component crop can be (64 megapixels). Size and
kind are known from the header, before a pixel is decoded.
"""

from __future__ import annotations

import functools
import io
import os
import warnings
from typing import TYPE_CHECKING

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import StrPath, open_regular
from deft_aoi.contract.text import safe_text

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image

MAX_PIXELS = 64_000_000
"""An AOI crop is below 1 megapixel, a whole-board scan below 64; beyond it a file is a decompression bomb."""

MAX_BYTES = 256 << 20
"""A bitmap of 64 megapixels has 192 MB: no honest file is larger."""

READ_WHOLE_BYTES = 1 << 20
"""A file up to here is read in one go: the decoder's many small reads and seeks cost a crop a fifth of its time."""

FORMATS = ("PNG", "JPEG", "BMP")
"""Decoded whatever the file is called: factories do rename a JPEG to .png, and its pixels are plain."""

OWN_EXTENSION = {".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
"""Decoded only under their own names: containers of many kinds of content should not hide behind ``.png``."""

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", *OWN_EXTENSION)
_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


class ImageRefused(HardStop):
    """An image that is not decoded.

    Attributes:
        path: the file, so that a caller can name the row.
    """

    def __init__(self, path: StrPath, message: str, *, expected: str, found: str, hint: str = "") -> None:
        shown = safe_text(os.fspath(path), 200)
        super().__init__(f"the image {shown} {message}", expected=expected, found=found, hint=hint)
        self.path = os.fspath(path)


@functools.cache
def _pillow() -> ModuleType:
    from PIL import Image

    # Pillow warns from 89 megapixels on; by then our own limit has refused the file.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image


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
    pillow = _pillow()
    try:
        fd = open_regular(path)
    except HardStop as error:
        raise ImageRefused(path, "is not a regular file", expected="a real image file", found=error.found) from error
    with os.fdopen(fd, "rb") as file:
        stat = os.fstat(fd)
        _check_file(path, stat)
        handle = io.BytesIO(file.read()) if stat.st_size <= READ_WHOLE_BYTES else file
        own = OWN_EXTENSION.get(os.path.splitext(path)[1].lower())  # noqa: PTH122  (a Path costs 5 us a crop)
        try:
            with pillow.open(handle, formats=(*FORMATS, own) if own else FORMATS) as image:
                _check_header(path, image)
                if image.mode != "RGB":
                    converted: Image = image.convert("RGB")
                    return converted
                image.load()
                decoded: Image = image
                return decoded
        except ImageRefused:
            raise
        except pillow.DecompressionBombError as error:
            raise _too_large(path, safe_text(error, 120)) from error
        except Exception as error:  # Pillow raises many types on damaged bytes: OSError, SyntaxError, struct.error, …
            raise ImageRefused(
                path,
                "cannot be decoded",
                expected="a whole PNG, JPEG or BMP file (TIFF or WebP under its own extension)",
                found="no image of these kinds" if isinstance(error, pillow.UnidentifiedImageError) else safe_text(error, 120),
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
    if image.mode not in _MODES:
        raise ImageRefused(
            path,
            "has more than 8 bits a channel",
            expected="8 bits a channel: TAO cuts the rest off, which leaves white where there was detail",
            found=f"pixel type {image.mode}",
            hint="convert it to 8 bits with the range that shows the part",
        )
    if _is_animated(image):
        raise ImageRefused(path, "has several frames", expected="one still picture", found="an animated or multi-page file")


def _is_animated(image: Image) -> bool:
    if image.format == "TIFF":  # counting the pages walks a chain that the file itself describes; the second one decides
        try:
            image.seek(1)
        except EOFError:
            image.seek(0)
            return False
        return True
    return image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1

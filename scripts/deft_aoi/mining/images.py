"""Opening images that came from outside: formats on a list, size known before decoding."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes, open_regular
from deft_aoi.contract.text import safe_text
from deft_aoi.mining.defaults import IMAGE_FORMATS, JPEG_QUALITY, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    from PIL import Image


def load_image(path: Path) -> Image.Image:
    """Decode ``path`` completely (RGB, no EXIF rotation: TAO applies none).

    Raises:
        HardStop: not a regular file, a format that is not on the list, over 64 Mpx or 256 MiB, or damaged.
    """
    from PIL import Image

    with os.fdopen(open_regular(path), "rb") as handle:
        size_bytes = os.fstat(handle.fileno()).st_size
        if size_bytes > MAX_IMAGE_BYTES:
            raise HardStop("an image is too large", expected=f"at most {MAX_IMAGE_BYTES >> 20} MiB", found=f"{size_bytes} bytes")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked right below
                with Image.open(handle, formats=IMAGE_FORMATS) as image:
                    width, height = image.size
                    if width * height > MAX_IMAGE_PIXELS:
                        raise HardStop(
                            "an image is oversize",
                            expected=f"at most {MAX_IMAGE_PIXELS >> 20} Mpx",
                            found=f"{width} x {height} pixels",
                        )
                    return image.convert("RGB")
        except HardStop:
            raise
        except Image.DecompressionBombError as error:
            raise HardStop(
                "an image is oversize", expected=f"at most {MAX_IMAGE_PIXELS >> 20} Mpx", found=safe_text(error, 120)
            ) from error
        except Exception as error:  # Pillow raises many types on damaged bytes
            raise HardStop("an image cannot be decoded", found=safe_text(error, 120)) from error


def save_as(image: Image.Image, path: Path, extension: str) -> None:
    """Encode ``image`` with the format that ``extension`` names, atomically and without metadata."""
    import io

    buffer = io.BytesIO()
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF"}.get(extension.lower(), extension[1:].upper())
    if kind == "JPEG":
        image.save(buffer, kind, quality=JPEG_QUALITY, subsampling=0)
    elif kind in IMAGE_FORMATS:
        image.save(buffer, kind)
    else:
        raise HardStop("the spec's image_ext is not an image format we write", found=safe_text(extension))
    atomic_write_bytes(path, buffer.getvalue())

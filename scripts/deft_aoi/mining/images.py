"""Images of the pre-generated pairs: decoded by the one function of the contract, encoded for the spec's extension."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_bytes
from deft_aoi.contract.images import FORMAT_OF
from deft_aoi.contract.images import open_image as load_image
from deft_aoi.contract.text import quoted
from deft_aoi.mining.defaults import JPEG_QUALITY

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_image", "save_as"]


def save_as(image: Image.Image, path: Path, extension: str) -> None:
    """Encode ``image`` with the format that ``extension`` names, atomically and without metadata."""
    import io

    buffer = io.BytesIO()
    kind = FORMAT_OF.get(extension.lower())
    if kind == "JPEG":
        image.save(buffer, kind, quality=JPEG_QUALITY, subsampling=0)
    elif kind:
        image.save(buffer, kind)
    else:
        raise HardStop(
            "the spec's image_ext is not an image format we write",
            found=quoted(extension),
            hint="use " + ", ".join(FORMAT_OF),
        )
    atomic_write_bytes(path, buffer.getvalue())

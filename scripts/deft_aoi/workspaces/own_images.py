"""A user's pictures as a workspace has them: 8 bits a channel, upright.

The loop's own reading stays as TAO's, which turns and scales nothing; so this is done once, where the files are copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.deep_images import read_deep
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.images import TooDeep, open_image
from deft_aoi.contract.text import quoted

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 0x0112
MAX_LISTED = 10


class OwnImages:
    """Opens pictures, and remembers which of them must be written anew.

    Args:
        bit_depth: bits that pictures of more than 8 use, 9 to 16; ``None`` refuses them. See :func:`used_bits` for ``auto``.
    """

    def __init__(self, bit_depth: int | None = None) -> None:
        self._bits = bit_depth
        self.changed: dict[Path, str] = {}

    def open(self, path: Path) -> Image:
        """The picture as the workspace will have it. Raises HardStop like :func:`deft_aoi.contract.images.open_image`."""
        from PIL import ImageOps

        try:
            image = open_image(path)
        except TooDeep as error:
            if self._bits is None:
                error.hint = "--bit-depth 12, 16 or auto scales to 8 bits what a camera of so many bits gave"
                raise
            self.changed[path] = f"scaled from {self._bits} bits a channel to 8 (--bit-depth)"
            return self._scaled(path, self._bits)
        if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
            self.changed[path] = "turned as the EXIF orientation says"
            return ImageOps.exif_transpose(image)
        return image

    def _scaled(self, path: Path, bits: int) -> Image:
        import numpy as np
        from PIL import Image

        values, top = read_deep(path), (1 << bits) - 1
        if int(values.max()) > top:
            raise HardStop(
                f"{quoted(path.name)} has values that {bits} bits cannot hold",
                expected=f"at most {top}",
                found=f"{int(values.max())}",
                hint="--bit-depth 16, or auto",
            )
        return Image.fromarray(((values.astype(np.uint32) * 510 + top) // (2 * top)).astype(np.uint8)).convert("RGB")

    def notes(self) -> list[str]:
        """What was done to how many pictures."""
        return [f"{count} images were {what}" for what, count in sorted(Counter(self.changed.values()).items())]


def used_bits(paths: Iterable[Path]) -> int | None:
    """The least number of bits that holds every value of all pictures deeper than 8 bits; ``None`` where there are none.

    One number for all: a scale of its own for each picture would change how a test and its golden compare.
    """
    highest = 0
    for path in dict.fromkeys(paths):
        try:
            open_image(path)
        except TooDeep:
            highest = max(highest, int(read_deep(path).max()), 256)
        except (HardStop, OSError):
            continue  # named when all pictures are opened
    return highest.bit_length() or None


def bits_of(bit_depth: str | None, paths: Sequence[Path]) -> int | None:
    """What ``--bit-depth`` means for these pictures."""
    return used_bits(paths) if bit_depth == "auto" else int(bit_depth) if bit_depth else None

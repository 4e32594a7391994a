"""Pictures for the page: decoded, shrunk, encoded again (so nothing but pixels gets in) and bounded in bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.images import open_image

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

SHEET_SIDE = 600
"""Longer side of a contact sheet (test | golden | difference)."""
THUMB_SIDE = 72
SMALL_SIDE = 160
SHEET_BYTES = 60_000
TOTAL_BYTES = 900_000
"""All pictures of a page together; with charts and tables it stays below 2 MB."""
MAX_SOURCE_BYTES = 20_000_000


class Album:
    """Encodes pictures of one page until its bytes are spent.

    Args:
        roots: folders that pictures may come from; a path that leads elsewhere is not opened.
    """

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = tuple(root.resolve() for root in roots)
        self._left = TOTAL_BYTES

    def sheet(self, path: Path) -> str | None:
        """A contact sheet as a ``data:`` URI; ``None`` when it cannot be shown."""
        return self._encode(self._open(path), SHEET_SIDE)

    def row(self, paths: Sequence[Path]) -> str | None:
        """Pictures of one size side by side as one; ``None`` when any cannot be shown."""
        images = [image for image in map(self._open, paths) if image is not None]
        if len(images) < len(paths):
            return None
        from PIL import Image

        side = SHEET_SIDE // len(images)
        sheet = Image.new("RGB", (side * len(images), side), "white")
        for at, image in enumerate(images):
            scale = (side - 4) / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            sheet.paste(image.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX), (at * side + 2, 0))
        return self._encode(sheet, SHEET_SIDE)

    def small(self, picture: Path | PILImage) -> str | None:
        """A picture of a pair, decoded or not, as a ``data:`` URI; ``None`` when it cannot be shown."""
        return self._encode(self._open(picture) if isinstance(picture, Path) else picture, SMALL_SIDE)

    def thumb(self, path: Path) -> str | None:
        """A small picture as a ``data:`` URI; ``None`` when it cannot be shown."""
        return self._encode(self._open(path), THUMB_SIDE)

    def _encode(self, image: PILImage | None, side: int) -> str | None:
        if image is None:
            return None
        from PIL import Image

        if self._left <= 0:
            return None
        if max(image.size) > side:
            image.thumbnail((side, side), Image.Resampling.BOX)
        elif side in (THUMB_SIDE, SMALL_SIDE) and max(image.size) < side:
            factor = side / max(image.size)
            image = image.resize(
                (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.NEAREST
            )
        for quality in (88, 75, 60, 40, 20):
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= min(SHEET_BYTES, self._left):
                self._left -= buffer.tell() * 4 // 3
                return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        return None

    def _open(self, path: Path) -> PILImage | None:
        from PIL import Image

        real = path.resolve()
        if self._left <= 0 or not any(real.is_relative_to(root) for root in self._roots):
            return None
        try:
            if real.stat().st_size > MAX_SOURCE_BYTES:
                return None
            image = open_image(real)
            # Only the pixels are copied on: EXIF, ICC profiles, comments and text chunks stay behind.
            clean = Image.new("RGB", image.size)
            clean.paste(image)
            return clean
        except (OSError, DeftError):
            return None

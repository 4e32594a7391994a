"""Crops that are far larger than what the network sees of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from deft_aoi.contract.spec import Spec, get

FAR_LARGER = 2.0


def middle_side(thumbs: Iterable[bytes]) -> int:
    """The median of the longer sides in pixels; a thumbnail begins with width and height of its image."""
    sides: list[int] = sorted(max(struct.unpack("<2H", thumb[:4])) for thumb in thumbs)
    return sides[len(sides) // 2]


def large_crops(side: int, spec: Spec) -> list[str]:
    """A note where a crop's longer side, in pixels, is more than twice the network's input; else nothing."""
    seen = max(int(get(spec, f"dataset.classify.image_{key}") or 0) for key in ("width", "height"))
    if not seen or side <= FAR_LARGER * seen:
        return []
    return [
        f"crops are {side} px on the longer side and the network sees {seen}: defects smaller than {side / seen:.0f} px vanish; "
        f"crop closer to the part, or --set dataset.classify.image_width={2 * seen} "
        f"--set dataset.classify.image_height={2 * seen} (preflight.py)"
    ]

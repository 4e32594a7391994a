"""The review page: one HTML file, offline and without a server, on which a person judges parts by keyboard or mouse.

``review.html`` shows test, golden and difference of one part at a time and saves ``labels.csv`` (``page, part, label, by,
at``). ``review.json`` beside it says which files each part is made of, so that the import takes over what was judged, and
only what this page showed. The pictures are decoded, shrunk and encoded again: nothing but pixels gets in, and a page of
2,000 parts stays below 30 MB.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import atomic_write_text, digest_json, sha256_file
from deft_aoi.contract.images import open_image
from deft_aoi.contract.schema import write_checked
from deft_aoi.contract.text import printable

if TYPE_CHECKING:
    from PIL.Image import Image

HERE = Path(__file__).parent
PAGE, PARTS = "review.html", "review.json"
MAX_PARTS = 2_000
"""What a person judges in a day; a larger page is slow to open."""
MAX_CHOICES = 9
PICTURE_SIDE = 320
PICTURE_BYTES = 24_000
TOTAL_BYTES = 20_000_000
"""All pictures of a page, before base64 adds a third."""


@dataclass(frozen=True)
class Part:
    """One part to judge.

    Attributes:
        name: as the user knows it.
        facts: what the model said of it, in a few words.
        tests: the test image of each light.
        goldens: the golden of each light, as the user has it: what is taken over.
        shown: the golden of each light as the model saw it, where that is another (registered) one.
        label: the label that it came with; empty for none.
        score: the model's score; ``None`` where no model scored it.
    """

    name: str
    facts: str
    tests: tuple[str, ...]
    goldens: tuple[str, ...]
    shown: tuple[str, ...] = field(default=())
    label: str = ""
    score: float | None = None


def write_page(
    folder: Path, parts: Sequence[Part], choices: Sequence[str], *, kind: str, title: str, source: dict[str, Any]
) -> dict[str, Any]:
    """Write ``review.html`` and ``review.json``.

    Args:
        folder: where; must exist.
        parts: what to judge, most doubtful first; those after the first :data:`MAX_PARTS` are left out, and counted.
        choices: the answers of keys 1 to 9.
        kind: ``boards`` (answers are labels) or ``spot_check`` (answers are causes).
        title: first words of the page.
        source: who scored the parts, for provenance.

    Returns:
        ``path``, ``parts`` and ``left_out``.

    Raises:
        HardStop: nothing to judge, not one to nine answers, or an image that is not decoded.
    """
    if not parts or not 1 <= len(choices) <= MAX_CHOICES:
        raise HardStop(
            "there is no page to make",
            expected=f"at least one part, and 1 to {MAX_CHOICES} answers",
            found=f"{len(parts)} parts, {len(choices)} answers",
        )
    shown = parts[:MAX_PARTS]
    limit = min(PICTURE_BYTES, TOTAL_BYTES // (2 * len(shown)))
    listed = [
        {
            "id": f"p{number:04d}",
            "name": printable(part.name, 300),
            "label": part.label,
            "score": part.score,
            "tests": [_file(path) for path in part.tests],
            "goldens": [_file(path) for path in part.goldens],
        }
        for number, part in enumerate(shown, start=1)
    ]
    body = {"version": 1, "kind": kind, "source": source, "choices": list(choices), "parts": listed}
    page = digest_json(body)[:16]
    pictures = [
        {
            "id": entry["id"],
            "facts": printable(f"{part.name}: {part.facts}", 400),
            "test": _encoded(part.tests, limit),
            "golden": _encoded(part.shown or part.goldens, limit),
        }
        for entry, part in zip(listed, shown, strict=True)
    ]
    write_checked(folder / PARTS, {**body, "page": page}, "review")
    atomic_write_text(folder / PAGE, _html({"page": page, "title": title, "choices": list(choices), "parts": pictures}))
    return {"path": str(folder / PAGE), "parts": len(shown), "left_out": len(parts) - len(shown)}


def _file(path: str) -> dict[str, str]:
    return {"path": path, "sha256": sha256_file(path)}


def _html(data: dict[str, Any]) -> str:
    script = (HERE / "review_page.js.j2").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")  # no name can end the element
    page = (HERE / "review_page.html.j2").read_text(encoding="utf-8").replace("SCRIPT_HASH", f"sha256-{digest}")
    head, _, rest = page.partition("PAGE_DATA")
    middle, _, tail = rest.partition("SCRIPT")
    return "".join((head, text, middle, script, tail))


def _encoded(paths: Sequence[str], limit: int) -> str:
    """The lights side by side as one JPEG of at most ``limit`` bytes, in base64."""
    from PIL import Image

    lights = [open_image(path) for path in paths]
    sheet = Image.new("RGB", (sum(light.width for light in lights), max(light.height for light in lights)))
    left = 0
    for light in lights:
        sheet.paste(light, (left, 0))
        left += light.width
    sheet.thumbnail((PICTURE_SIDE * len(lights), PICTURE_SIDE), Image.Resampling.BOX)
    return base64.b64encode(_jpeg(sheet, limit)).decode("ascii")


def _jpeg(sheet: Image, limit: int) -> bytes:
    while True:
        for quality in (90, 75, 50):
            sink = io.BytesIO()
            sheet.save(sink, "JPEG", quality=quality)
            if sink.tell() <= limit or max(sheet.size) <= 32:
                return sink.getvalue()
        sheet = sheet.reduce(2)

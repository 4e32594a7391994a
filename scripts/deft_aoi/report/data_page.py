"""One self-contained page about data: tables and pairs of images, no script, no request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.files import atomic_write_text
from deft_aoi.report.pictures import Album
from deft_aoi.report.render import template

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Section:
    """A heading with a table and pictures.

    Attributes:
        title: the heading. lead: a sentence below it.
        columns: the table's head; none for no table. rows: its cells, data from outside included.
        pictures: caption, and images side by side, decoded or as files.
    """

    title: str
    lead: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    pictures: Sequence[tuple[str, Sequence[Path | Image]]] = ()


def write_data_page(file: Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write the page to ``file``, atomically, and return its absolute path; pictures beyond the page's bytes are left out."""
    album = Album(tuple({Path(one).parent for s in sections for _, own in s.pictures for one in own if isinstance(one, Path)}))
    shown = [
        {
            "title": section.title,
            "lead": section.lead,
            "columns": section.columns,
            "rows": section.rows,
            "pictures": [(caption, [album.small(one) for one in images]) for caption, images in section.pictures],
        }
        for section in sections
    ]
    file = file.expanduser().absolute()
    atomic_write_text(file, template("data_page.html.j2").render(title=title, lead=lead, sections=shown))
    return file

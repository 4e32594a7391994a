"""``DEFT_Loop_Report.html`` from disk alone: one file, no script, no request, the same bytes for the same run."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from deft_aoi.contract.files import atomic_write_text
from deft_aoi.contract.paths import RunPaths
from deft_aoi.report import context
from deft_aoi.report import number_format as fmt
from deft_aoi.report.run_view import read_run

if TYPE_CHECKING:
    from jinja2 import Template

HERE = Path(__file__).parent


@lru_cache(maxsize=2)
def template(name: str) -> Template:
    """A page's template, with the one style; values are escaped and never templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["data"] = fmt.cell
    # Our own file, read as it is: it holds no data, and a value in the page is never a template.
    env.globals["style"] = Markup((HERE / "style.css.j2").read_text(encoding="utf-8"))  # nosec B704 - our own file
    return env.get_template(name)


def render_html(results_dir: str | Path) -> str:
    """The report as text.

    Raises:
        HardStop: the record is missing or damaged.
    """
    return template("template.html.j2").render(context.build(read_run(results_dir)))


def render_report(results_dir: str | Path) -> Path:
    """Write the report of a run, finished or not, and return its path.

    Findings that do not hold are left out and named on the page; :func:`deft_aoi.report.findings.require` refuses them.

    Raises:
        HardStop: the record is missing or damaged.
    """
    target = RunPaths(Path(results_dir).expanduser().resolve()).report
    atomic_write_text(target, render_html(results_dir))
    return target

"""The tools that are not scripts: reading references and run files, looking at images, the findings, the person.

Each is bounded and confined: what is read is in the skill or in this workspace, and only
``run/findings.json`` of the open run can be written.
"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

from deft_aoi.agent.tools import ToolResult
from deft_aoi.contract.errors import DeftError, HardStop, UsageError

MAX_READ_BYTES = 12_000
SHOWN_SIDE = 768
"""Longer side, in pixels, of an image as the model sees it: a component crop needs no more, and costs tokens."""

_TEXT = {"type": "string"}


def definitions(skill_root: Path, *, reporter: bool) -> list[dict[str, Any]]:
    """The tools as the Messages API takes them, for the main conversation or for the reporter's."""
    references = sorted(p.name for p in (skill_root / "references").glob("*") if p.is_file())
    shared = [
        _define("view_image", "Shows an image of this workspace or run (PNG, JPEG, BMP), scaled down.", path=_TEXT),
    ]
    if reporter:
        return [
            *shared,
            _define(
                "read_run_file",
                "Reads a text file of the run folder, at most 12,000 bytes from offset.",
                optional={"offset": {"type": "integer"}},
                path=_TEXT,
            ),
            _define(
                "write_findings",
                "Writes run/findings.json of the run after checking it against its schema.",
                results_dir=_TEXT,
                findings={"type": "object"},
            ),
        ]
    return [
        *shared,
        _define("read_reference", "Reads one reference of the skill.", name={"type": "string", "enum": references}),
        _define("ask_user", "Asks the person at the terminal and returns their words.", question=_TEXT),
        _define("spawn_reporter", "Starts the reporter in a separate conversation; it gets paths only.", results_dir=_TEXT),
    ]


def _define(name: str, description: str, /, *, optional: dict[str, Any] | None = None, **required: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }
    return {"name": name, "description": description, "input_schema": schema}


class LocalTools:
    """Carries out the calls.

    Args:
        skill_root: the folder with ``SKILL.md``.
        workspace: the workspace of this session, or None while none is known.
    """

    def __init__(self, skill_root: Path, workspace: Path | None = None) -> None:
        self.skill_root = skill_root
        self.workspace = workspace

    def call(self, name: str, given: dict[str, Any]) -> ToolResult:
        """One call; an error that a model can act on becomes the result's text."""
        known = {d["name"]: d for flag in (False, True) for d in definitions(self.skill_root, reporter=flag)}
        schema = known[name]["input_schema"]
        wrong = [k for k in given if k not in schema["properties"]] + [k for k in schema["required"] if k not in given]
        try:
            if wrong:
                raise UsageError(
                    f"{name}: the input does not fit", expected=f"{list(schema['properties'])}", found=f"{wrong}"[:100]
                )
            result: ToolResult = getattr(self, f"_{name}")(**given)
            return result
        except DeftError as error:
            return ToolResult(f"exit {error.exit_code}\n{error.render()}", error.exit_code)
        except (OSError, TypeError, ValueError) as error:
            return ToolResult(f"exit 4\nblocked: {name} failed: {type(error).__name__}", 4)

    def inside(self, path: str, root: Path | None = None) -> Path:
        """The real path of a file below the workspace (or ``root``).

        Raises:
            HardStop: it is outside.
            Blocked: there is no workspace yet, or no such file (as ``OSError``).
        """
        base = (root or self.workspace or self.skill_root).resolve()
        full = (base / path).resolve()
        if not full.is_relative_to(base):
            raise HardStop("the path leaves the workspace", expected=f"a file below {base}", found=repr(path)[:120])
        return full

    def _read_reference(self, name: str) -> ToolResult:
        folder = self.skill_root / "references"
        if name not in {p.name for p in folder.iterdir() if p.is_file()}:
            raise UsageError(
                "no such reference", expected=", ".join(sorted(p.name for p in folder.iterdir())), found=repr(name)[:80]
            )
        return ToolResult((folder / name).read_text(encoding="utf-8"))

    def _read_run_file(self, path: str, offset: int = 0) -> ToolResult:
        full = self.inside(path)
        if full.suffix not in (".json", ".jsonl", ".txt", ".csv", ".md", ".yaml"):
            raise UsageError("not a text file of a run", expected=".json .jsonl .txt .csv .md .yaml", found=full.suffix[:20])
        with full.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, offset))
            text = handle.read(MAX_READ_BYTES).decode("utf-8", "replace")
        visible = "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
        rest = size - max(0, offset) - MAX_READ_BYTES
        return ToolResult(visible + (f"\n… {rest} more bytes from offset {offset + MAX_READ_BYTES}" if rest > 0 else ""))

    def _view_image(self, path: str) -> ToolResult:
        from deft_aoi.contract.images import open_image

        shown = open_image(self.inside(path))
        width, height = shown.size
        shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        buffer = io.BytesIO()
        shown.save(buffer, "PNG")
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(buffer.getvalue()).decode("ascii")}
        return ToolResult(f"{width} x {height} pixels", image={"type": "image", "source": source})

    def _write_findings(self, results_dir: str, findings: dict[str, Any]) -> ToolResult:
        from deft_aoi.contract.schema import validate

        validate(findings, "report_findings")
        target = self._run(results_dir) / "run" / "findings.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(findings, sort_keys=True, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
        return ToolResult(f"written: {target}")

    def _run(self, results_dir: str) -> Path:
        run = self.inside(results_dir)
        if not (run / "loop_log.jsonl").is_file() or not re.fullmatch(r"[A-Za-z0-9_.-]+", run.name):
            raise HardStop("not a run folder", expected="<workspace>/results/run_<time>", found=repr(results_dir)[:120])
        return run

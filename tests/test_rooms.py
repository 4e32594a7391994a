"""Who may import whom (docs/architecture.md, Rooms), and what a light command must not pay for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "scripts" / "deft_aoi"
ROOMS = {
    "contract": set(),
    "record": {"contract"},
    "analysis": {"contract"},
    "mining": {"contract", "record", "analysis"},
    "engines": {"contract"},
    "platforms": {"contract"},
    "loop": {"contract", "record", "analysis", "mining", "engines", "platforms", "report", "workspaces"},
    "report": {"contract", "record", "analysis"},
    "agent": {"contract"},
    "workspaces": {"contract", "analysis", "mining"},
    "demo": {"contract", "workspaces"},
}


def _imports(path: Path) -> set[str]:
    """Rooms that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "deft_aoi" else [f"deft_aoi.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {".".join(n.split(".")[1:]) for n in names if n.startswith("deft_aoi.")}
    return found


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_import_only_what_they_may(room: str) -> None:
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files, f"no files in {room}"
    for path in files:
        for name in _imports(path):
            other = name.split(".")[0]
            if other in ROOMS and other != room:
                assert other in ROOMS[room], f"{path.relative_to(PACKAGE)} imports {name}"
            if room == "loop":
                assert not name.startswith("engines.embedded"), f"{path.name}: the embedded engine is reached by command line"


def test_every_room_is_in_the_table() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert rooms == set(ROOMS)


def test_scripts_import_the_library_and_never_one_another() -> None:
    scripts = sorted(PACKAGE.parent.glob("*.py"))
    assert len(scripts) > 25
    names = {p.stem for p in scripts}
    for path in scripts:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom | ast.Import):
                modules = {a.name for a in node.names} if isinstance(node, ast.Import) else {node.module or ""}
                assert not modules & names, f"{path.name} imports {modules & names}"


@pytest.mark.parametrize("script", sorted(p.stem for p in PACKAGE.parent.glob("*.py")))
def test_help_works_with_an_example_and_loads_nothing_heavy(script: str) -> None:
    if script == "setup_env":
        pytest.skip("has no library behind it; tested in tests/agent")
    code = (
        "import sys; sys.argv=['x','--help']; import runpy\n"
        f"try: runpy.run_path({str(PACKAGE.parent / (script + '.py'))!r}, run_name='__main__')\n"
        "except SystemExit as e: code = e.code\n"
        "heavy = sorted({'torch','pandas','pyarrow','matplotlib','docker','anthropic','scipy','numpy'} & set(sys.modules))\n"
        "print('HEAVY', heavy, code)"
    )
    env = {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert "HEAVY [] 0" in done.stdout, done.stdout[-500:] + done.stderr[-500:]
    assert "example" in done.stdout.lower()


def test_the_book_names_every_room_and_nobody_cites_a_paper_that_is_not_here() -> None:
    root = PACKAGE.parents[1]
    book = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS if f"| {room} |" not in book] == []
    papers = re.compile(r"\b(DESIGN|TAO_CONTRACT|THREATS|PEER_DEFECTS|HOUSE|OUTCOME)\b(\.md| section| [0-9])")
    files = [p for folder in ("scripts", "hooks", "docs") for p in (root / folder).rglob("*") if p.suffix in (".py", ".md")]
    assert len(files) > 200
    assert [str(p.relative_to(root)) for p in files if papers.search(p.read_text(encoding="utf-8"))] == []


def _modules() -> dict[str, set[str]]:
    """Every module of the library and the modules that it imports, wherever the import is."""
    files = {".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): p for p in PACKAGE.rglob("*.py")}
    out: dict[str, set[str]] = {}
    for name, path in files.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deft_aoi":
                base = (node.module or "").removeprefix("deft_aoi").lstrip(".")
                wanted = [f"{base}.{a.name}".lstrip(".") for a in node.names]
                found |= {w if w in files else base for w in wanted}
        out[name] = (found & set(files)) - {name}
    return out


def _reach(modules: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in modules[todo.pop()] - seen:
            seen.add(name)
            todo.append(name)
    return seen


def test_no_import_circle() -> None:
    modules = _modules()
    reach = {name: _reach(modules, name) for name in modules}
    circles = {tuple(sorted({n, *(m for m in reach[n] if n in reach[m])})) for n in modules if n in reach[n]}
    assert circles == set()

"""One real run on a workspace full of planted text, with canaries in every place where a secret may live."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pytest

from tests.built_once import built_once

from ..loop.conftest import SCRIPTS, deft
from .planting import TOKEN, must_be_harmless, plant, unquoted

CANARIES = {
    "HF_TOKEN": "hf_Cn4ryEnvAbcdefghijklmnopqrst",
    "NGC_API_KEY": "nvapi-Cn4ryEnv-abcdefghijklmnopqrst",
    "AWS_SECRET_ACCESS_KEY": "Cn4ryEnvAws/abcdefghijklmnopqrstuvwxyz12",
}
FILE_CANARIES = {"HF_TOKEN": "hf_Cn4ryFileAbcdefghijklmnopqrs", "NGC_KEY": "nvapi-Cn4ryFile-abcdefghijklmnop"}
SECRETS = [v.encode() for v in (*CANARIES.values(), *FILE_CANARIES.values())]
ARGS = ("--training-epochs", "1", "--max-iterations", "1", "--kpi-target", "FAR < 0.0001% at recall=100%")


@dataclass
class Run:
    """A finished hostile run and all that could be seen of it."""

    workspace: Path
    home: Path
    out: str = ""
    err: str = ""
    code: int = -1
    next_clean: list[str] = field(default_factory=list)
    next_hostile: list[str] = field(default_factory=list)
    cmdlines: set[bytes] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.workspace / "results" / "run_20260101_000000"


def _watch(run: Run, stop: threading.Event) -> None:
    while not stop.is_set():
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    run.cmdlines.add(Path("/proc", name, "cmdline").read_bytes())
                except OSError:
                    continue
        stop.wait(0.02)


def _opened(run: Run) -> list[str]:
    """Plan, approve and open; what next_stage.py says then."""
    digest = deft("preflight", "--workspace", run.workspace, *ARGS, "--json").json["digest"]
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    said = deft("init_deft_state", "--plan-digest", digest[:12], "--results-dir", run.root)
    assert said.code == 0, said.err
    return [deft("next_stage", "--results-dir", run.root).out, deft("next_stage", "--results-dir", run.root, "--json").out]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch) -> Run:
    """Built once for both workers of a session; its processes are forks."""

    def build(folder: Path) -> None:
        made = _hostile(folder, monkeypatch_module)
        seen = {"out": made.out, "err": made.err, "code": made.code, "clean": made.next_clean, "hostile": made.next_hostile}
        (folder / "seen.json").write_text(json.dumps(seen))

    base = built_once(tmp_path_factory, "hostile", build)
    _set_environment(base, monkeypatch_module)
    seen = json.loads((base / "seen.json").read_text())
    return Run(base / "ws", base / "home", seen["out"], seen["err"], seen["code"], seen["clean"], seen["hostile"])


@pytest.fixture(scope="module")
def run_in_interpreters(tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch) -> Run:
    """The same, whose processes have command lines."""
    return _hostile(tmp_path_factory.mktemp("hostile"), monkeypatch_module)


def _set_environment(base: Path, patch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        patch.setenv(variable, str(base / "home"))
    for name, value in CANARIES.items():
        patch.setenv(name, value)


def _hostile(base: Path, monkeypatch_module: pytest.MonkeyPatch) -> Run:
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch_module.setenv(variable, str(base / "home"))
    run = Run(base / "ws", base / "home")
    assert deft("make_demo_workspace", "--output", run.workspace, "--scale", "small", "--seed", 3).code == 0
    pristine = base / "pristine"
    shutil.copytree(run.workspace, pristine)
    run.next_clean = _opened(run)
    shutil.rmtree(run.workspace)
    shutil.copytree(pristine, run.workspace)
    plant(run.workspace)
    (run.workspace / ".env").write_text("".join(f"{k}={v}\n" for k, v in FILE_CANARIES.items()))
    for name, value in CANARIES.items():
        monkeypatch_module.setenv(name, value)
    run.next_hostile = _opened(run)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run, stop))
    watcher.start()
    command = [sys.executable, str(SCRIPTS / "run_loop.py"), "--results-dir", str(run.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)
    stop.set()
    watcher.join()
    run.out, run.err, run.code = done.stdout, done.stderr, done.returncode
    return run


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_the_run_ends_as_any_other(run: Run) -> None:
    assert run.code == 0, run.out + run.err
    assert "verdict: " in run.out


def test_the_next_command_is_that_of_the_clean_run(run: Run) -> None:
    assert run.next_hostile == run.next_clean
    assert "baseline" in run.next_clean[0] or "assets" in run.next_clean[0]


def test_printed_lines_are_short_and_carry_planted_text_only_in_quotes(run: Run) -> None:
    printed = [run.out, run.err]
    for script in ("status", "next_stage", "verify_run"):
        said = deft(script, "--results-dir", run.root)
        printed += [said.out, said.err]
    said = deft("check_data", "--workspace", run.workspace)
    printed += [said.out, said.err]
    said = deft("preflight", "--workspace", run.workspace, *ARGS)
    printed += [said.out, said.err]
    assert sum(must_be_harmless(text) for text in printed) > 60


def test_record_and_snapshot_carry_planted_text_only_inside_json_strings(run: Run) -> None:
    lines = (run.root / "loop_log.jsonl").read_text(encoding="ascii").splitlines()
    assert len(lines) > 15
    for line in lines:
        assert len(line) < 4096
        event = json.loads(line)
        assert not unquoted(event["summary"]), event["summary"]
        assert event["summary"].isprintable()
    state = json.loads((run.root / "deft_state.json").read_text(encoding="ascii"))
    assert state["status"] in ("max_iterations", "pool_exhausted")


READ_BY_THE_REPORTER = (
    "baseline/inference/*/summary.txt",
    "baseline/rca_results/*/weak_samples_breakdown.txt",
    "iter1_summary.md",
    "iter1/routing_results/*/routing_summary.txt",
    "iter1/mining_filter/mining_summary.txt",
    "iter1/rca_results/*/weak_samples_breakdown.txt",
)


@pytest.mark.parametrize("pattern", READ_BY_THE_REPORTER)
def test_texts_that_an_agent_reads_carry_planted_text_only_in_quotes(run: Run, pattern: str) -> None:
    found = sorted(run.root.glob(pattern))
    assert found
    for path in found:
        text = path.read_text(encoding="utf-8")
        must_be_harmless(text.replace("\t", " "))
        assert TOKEN.search(text) or path.name == "iter1_summary.md", "planted text must be there to be quoted"


def test_sentences_of_the_report_carry_planted_text_only_in_quotes(run: Run) -> None:
    """An element that holds nothing but the value is a field of its own; in a sentence of ours the value is quoted."""
    from html.parser import HTMLParser

    class Texts(HTMLParser):
        found: list[tuple[str, str]] = []
        open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            self.open.pop()

        def handle_data(self, data: str) -> None:
            self.found.append((self.open[-1] if self.open else "", " ".join(data.split())))

    parser = Texts()
    parser.feed((run.root / "DEFT_Loop_Report.html").read_text(encoding="utf-8"))
    planted = [(tag, text) for tag, text in parser.found if TOKEN.search(text)]
    assert len(planted) > 20
    for tag, text in planted:
        assert tag in ("bdi", "td", "th") or not unquoted(text), (tag, text)


def test_report_shows_planted_text_as_text(run: Run) -> None:
    from html.parser import HTMLParser

    page = (run.root / "DEFT_Loop_Report.html").read_text(encoding="utf-8")
    assert TOKEN.search(page), "the page shows labels, so the planted one must be there"

    class Parser(HTMLParser):
        tags: set[str] = set()
        attributes: set[str] = set()
        depth_script = 0

        def handle_starttag(self, tag, attrs):
            self.tags.add(tag)
            self.attributes |= {name for name, _ in attrs}
            for name, value in attrs:
                assert not (name in ("src", "href") and value and not value.startswith(("data:image/", "#"))), (name, value)

    parser = Parser()
    parser.feed(page)
    assert "Content-Security-Policy" in page
    assert not parser.tags & {"iframe", "object", "embed", "form", "base", "link"}
    assert "script" not in parser.tags or "<script>alert" not in page
    assert not [a for a in parser.attributes if a.startswith("on")]


def test_no_secret_is_anywhere(run: Run) -> None:
    assert _places_with_secrets(run) == []


@pytest.mark.integration
def test_no_secret_is_in_a_command_line(run_in_interpreters: Run) -> None:
    assert _places_with_secrets(run_in_interpreters) == []
    cmdlines = run_in_interpreters.cmdlines
    ours = [line for line in cmdlines if str(run_in_interpreters.root).encode() in line or b"visual_changenet" in line]
    assert any(b"train" in line for line in ours), "command lines of the run were really seen"
    assert len(cmdlines) > 5


def _places_with_secrets(run: Run) -> list[str]:
    places = [p for root in (run.root, run.home, run.workspace) for p in root.rglob("*") if p.is_file() and p.name != ".env"]
    assert len(places) > 100
    seen = {"standard output": run.out.encode(), "standard error": run.err.encode(), "command lines": b"\n".join(run.cmdlines)}
    contents = chain(seen.items(), ((str(path), path.read_bytes()) for path in places))
    return [place for place, content in contents if any(secret in content for secret in SECRETS)]

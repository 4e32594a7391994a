"""The skill's text: its limits, what a scanner would mark down, and that nothing it says is out of date."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

import deft_aoi

ROOT = Path(deft_aoi.__file__).parents[2]
SKILL = ROOT / "SKILL.md"
REFERENCES = sorted((ROOT / "references").glob("*.md"))
TEXTS = [SKILL, *REFERENCES, ROOT / "agents" / "reporter.md"]
SPECIFIED_KEYS = {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
EXPECTED_REFERENCES = {
    "pre-flight.md",
    "pipeline.md",
    "stage-execution.md",
    "state-logging.md",
    "data-layout.md",
    "visual-changenet.md",
    "tao-analyze-gaps-visual-changenet.md",
    "tao-mine-aoi-images.md",
    "prepare-for-inference.md",
    "REPORT_RENDERING.md",
    "SCRIPT_USAGE.md",
    "deft_state.json",
    "platforms.md",
    "troubleshooting.md",
}


def front_matter(path):
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), head, body


def commands(path):
    """The shell lines of a text: each indented or fenced line, or code span, that calls one of the skill's scripts."""
    text = path.read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if re.match(r"\s*(python3 scripts/|scripts/)\w+\.py", line)]
    spans = [s for s in re.findall(r"`([^`\n]+)`", text) if re.match(r"(python3 )?scripts/\w+\.py .*--", s)]
    return [re.sub(r"^python3 ", "", line) for line in lines + spans]


def parser_of(name):
    specification = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module.build_parser()


COMMANDS = [(path.name, line) for path in TEXTS for line in commands(path)]


def test_limits():
    text = SKILL.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 500
    assert len(text) < 18_000
    head, _, _ = front_matter(SKILL)
    assert set(head) <= SPECIFIED_KEYS
    assert head["name"] == "tao-run-deft-aoi"
    assert len(head["description"]) <= 1024
    assert len(head["compatibility"]) <= 500
    for trigger in (
        "run the DEFT loop",
        "fine-tune until FAR",
        "Do not use for",
        "false calls",
        "VCN",
        "improve my AOI ChangeNet model",
    ):
        assert trigger in head["description"]
    for question in (
        "continue run_",
        "score boards with best_model.json",
        "what does it still miss",
        "is 0 in 400 enough",
        "why did my DEFT run stop",
    ):
        assert question in head["description"]


def test_tools_are_separated_by_spaces_and_the_version_is_not_quoted():
    """As the Agent Skills specification writes them: headless Claude Code refuses the skill with a comma list."""
    head, raw, _ = front_matter(SKILL)
    assert head["allowed-tools"] == "Read Bash Write Task"
    assert re.search(r"^  version: \d+\.\d+\.\d+$", raw, re.MULTILINE)
    manifest = json.loads((ROOT / ".claude-plugin/plugin.json").read_text())
    assert str(head["metadata"]["version"]) == manifest["version"] == deft_aoi.__version__


def test_manifests_of_all_hosts_agree():
    base = json.loads((ROOT / ".claude-plugin/plugin.json").read_text())
    for other in (".codex-plugin/plugin.json", ".cursor-plugin/plugin.json"):
        manifest = json.loads((ROOT / other).read_text())
        assert {k: manifest[k] for k in base} == base
        for key in set(manifest) - set(base):
            assert (ROOT / manifest[key]).exists(), f"{other}: {key}"
    market = json.loads((ROOT / ".claude-plugin/marketplace.json").read_text())
    (plugin,) = market["plugins"]
    assert {k: plugin[k] for k in ("name", "version", "description")} == {k: base[k] for k in ("name", "version", "description")}


def test_references_are_complete_named_from_the_skill_and_say_when_to_read_them():
    names = {p.name for p in (ROOT / "references").iterdir()}
    assert names == EXPECTED_REFERENCES
    skill = SKILL.read_text()
    for name in names:
        assert f"`references/{name}`" in skill, name
    for path in REFERENCES:
        assert re.match(r"# .+\n\nRead ", path.read_text()), path.name


def test_every_script_is_named_in_a_text():
    texts = "".join(path.read_text(encoding="utf-8") for path in TEXTS)
    scripts = [path.name for path in (ROOT / "scripts").glob("*.py")]
    assert scripts
    assert [name for name in scripts if name not in texts] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_nothing_that_a_scanner_marks_down(path):
    text = path.read_text(encoding="utf-8")
    for pattern in (
        r"<!--",
        r"docker (pull|run|create)\b",
        r"--ipc=host",
        r"docker\.sock",
        r"rm -rf",
        r"os\.environ",
        r"/etc/passwd",
        r"\.env\s+(?!optional)",
        r"(?i)save the state to disk|resume the saved state",
        r"(?i)do not ask the user|auto-approve|skip confirmation",
        r"(?i)silently record",
        r"chmod 777",
        r" {80}",
        r"[\u200b-\u200f\u202a-\u202e]",
    ):
        if path.name == "data-layout.md" and pattern.startswith(r"\.env"):
            continue  # the workspace's tree names the file; the scanner's own run is part of the release check
        assert not re.search(pattern, text), f"{path.name}: {pattern}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_every_file_named_in_backticks_exists(path):
    text = path.read_text(encoding="utf-8")
    spans = re.findall(r"`((?:scripts|references|agents|schemas|hooks|specs|evals)/[\w./-]+)`", text)
    links = re.findall(r"\]\(([\w.-]+)\)", text)
    missing = [s for s in spans if not (ROOT / s).exists()] + [s for s in links if not (ROOT / "references" / s).exists()]
    assert not missing


def test_every_script_named_in_a_text_exists():
    for path in TEXTS:
        for name in set(re.findall(r"\b([a-z_]+\.py)\b", path.read_text())):
            assert (ROOT / "scripts" / name).is_file(), f"{path.name} names {name}"


def test_the_skill_says_what_happens_when_each_gate_fires():
    """Every hard stop, the approval, the hook, the lock; each exit code that an agent meets has its answer."""
    text = SKILL.read_text()
    section = text.partition("## When a gate fires")[2].partition("\n## ")[0]
    said = dict(re.findall(r"^- \*\*(.+?)\*\*(?: \((\d)\))?: ", section, re.MULTILINE))
    assert said == {
        "Approval": "5",
        "A call is denied by the hook": "",
        "Leakage": "3",
        "Unpaired pool": "3",
        "Empty pool at the start": "3",
        "Silent drop": "3",
        "Unreachable KPI": "3",
        "Nothing new to mine": "",
        "Damaged record": "3",
        "Another driver": "6",
    }
    assert "A hard stop after the baseline ends the loop" in section
    rows = re.findall(r"^\| (\d+) \|", text.partition("## What the exit codes ask of you")[2], re.MULTILINE)
    expected = ["0", "1", "2", "3", "4", "5", "6", "7", "9", "10"]
    assert sorted(rows, key=int) == expected, "8 is for CI, with an option that no agent is told to use"


def runs_of_words(text, length=10):
    """Every run of ten words of a text, its front matter, commands and tables' rules left out."""
    text = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(python3? |scripts/)", line)]
    for sentence in re.split(r"(?<=[.!?:;|])\s+|\n\n|\n- |\n\|", "\n".join(lines)):
        words = re.findall(r"[a-z0-9_`]+", sentence.lower())
        yield from (" ".join(words[at : at + length]) for at in range(len(words) - length + 1))


def test_nothing_is_said_twice():
    told = {}
    for path in TEXTS:
        for run in set(runs_of_words(path.read_text())):
            told.setdefault(run, []).append(path.name)
    assert len(told) > 1000
    twice = {run: names for run, names in told.items() if len(names) > 1}
    when = "the record the state or a resume is in question"  # it stands in the reference and in the skill's table
    assert list(twice) == [when], twice


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 25


@pytest.mark.parametrize(("where", "line"), COMMANDS)
def test_every_command_line_parses(where, line):
    words = shlex.split(re.sub(r"\s+\(.*\)$", "", line), comments=True)
    name = Path(words[0]).stem
    if "--help" in words:
        assert (ROOT / "scripts" / f"{name}.py").is_file()
        return
    parser = parser_of(name)
    parser.add_argument("--json", action="store_true")
    parser.exit_on_error = False
    parser.error = lambda message: pytest.fail(f"{where}: {line}: {message}")
    parser.parse_args(words[1:])


def test_the_known_errors_listed_are_the_known_errors():
    from deft_aoi.engines.known_errors import BY_ID

    listed = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "references/troubleshooting.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(BY_ID)


def test_the_reporter_is_a_valid_agent():
    head, _, body = front_matter(ROOT / "agents/reporter.md")
    assert head["name"] == "reporter"
    assert len(head["description"]) > 40
    assert set(head) <= {"name", "description", "tools", "model"}
    example = re.search(r"\{\"findings\".*?\]\}\]\}", body, re.DOTALL).group(0)
    from deft_aoi.contract.schema import validate

    validate(json.loads(example.replace("…", "text")), "report_findings")


def test_hooks_are_registered_for_what_they_judge():
    hooks = json.loads((ROOT / "hooks/hooks.json").read_text())["hooks"]
    assert set(hooks) == {"UserPromptSubmit", "PreToolUse"}
    for entries in hooks.values():
        (entry,) = entries
        (hook,) = entry["hooks"]
        assert hook["type"] == "command"
        assert "${CLAUDE_PLUGIN_ROOT}/hooks/guard.py" in hook["command"]
    for tool in ("Bash", "Write", "Edit", "NotebookEdit", "CronCreate", "mcp__fs__write_file"):
        assert re.fullmatch(hooks["PreToolUse"][0]["matcher"], tool)


def test_the_example_state_is_what_the_fold_gives():
    state = json.loads((ROOT / "references/deft_state.json").read_text())
    assert {"run_id", "status", "seq", "head", "iterations", "config", "plan_digest"} <= set(state)
    assert "baseline" in state["iterations"]
    from deft_aoi.contract.schema import validate

    validate(state, "deft_state")


def test_the_stage_table_has_every_stage_of_the_record():
    from deft_aoi.contract.stages import NAMES

    text = (ROOT / "references/stage-execution.md").read_text()
    rows = re.findall(r"^\| ([a-z_-]+) \| (person|[A-Z]+)", text, re.MULTILINE)
    assert [stage for stage, _ in rows if stage != "spot-check"] == [s for s in NAMES if s not in ("usage", "note")]
    assert {who for _, who in rows} == {"person", "SKILL", "INLINE", "AGENT"}


def test_no_command_line_needs_a_variable_that_somebody_must_have_set():
    for where, line in COMMANDS:
        assert "$" not in line, f"{where}: {line}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_one_name_for_the_gaps_and_every_json_object_parses(path):
    text = path.read_text()
    assert not re.search(r"(?<![a-z_])gaps\.parquet", text), "kpi_gaps.parquet, mining_gaps.parquet or anomalygen_gaps.parquet"
    for block in re.findall(r"(?:^    +\{.*\n)(?:^    +.*\n)*", text, re.MULTILINE):
        json.loads(block.replace("…", "text"))


def test_the_metric_plan_in_the_reference_is_one():
    from deft_aoi.analysis.metric import parse_metric_plan

    (block,) = re.findall(r"(?:^    \{.*\n)(?:^    .*\n)*", (ROOT / "references/pre-flight.md").read_text(), re.MULTILINE)
    assert parse_metric_plan(json.loads(block)) is not None

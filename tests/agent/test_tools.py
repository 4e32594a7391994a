"""Typed tools from the scripts' own command lines, and the local tools' walls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deft_aoi
from deft_aoi.agent import tools
from deft_aoi.agent.local_tools import LocalTools, definitions
from deft_aoi.contract.errors import HardStop, UsageError

SCRIPTS = Path(deft_aoi.__file__).parents[1]
ROOT = SCRIPTS.parent
ECHO = """
import argparse, os, sys
def build_parser():
    p = argparse.ArgumentParser(description="Echoes its arguments.")
    p.add_argument("word", help="what to say, 100%% of it")
    p.add_argument("--times", type=int, default=1, choices=(1, 2, 3))
    p.add_argument("--share", type=float)
    p.add_argument("--loud", action="store_true")
    p.add_argument("--set", action="append", dest="overrides")
    p.add_argument("--many", nargs="+")
    p.add_argument("--pictures", action=argparse.BooleanOptionalAction)
    p.add_argument("--yes", action="store_true")
    p.add_argument("--json", action="store_true")
    return p
if __name__ == "__main__":
    a = build_parser().parse_args()
    print(vars(a), "ANTHROPIC_API_KEY" in os.environ, sys.stdin.read())
    sys.exit(int(a.word) if a.word.isdigit() else 0)
"""


@pytest.fixture
def echo(tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    return tools.load_tools(tmp_path, ("echo",))["echo"]


def test_the_schema_is_the_command_line(echo):
    properties = echo.schema["properties"]
    assert echo.schema["required"] == ["word"]
    assert properties["times"] == {"type": "integer", "enum": [1, 2, 3]}
    assert properties["share"]["type"] == "number"
    assert properties["loud"]["type"] == properties["pictures"]["type"] == "boolean"
    assert properties["overrides"] == properties["many"] == {"type": "array", "items": {"type": "string"}}
    assert properties["word"]["description"] == "what to say, 100% of it"
    assert not {"yes", "json", "help"} & set(properties)


def test_values_cannot_become_options(echo):
    argv = echo.argv({"word": "--yes", "overrides": ["--yes"], "times": 2, "loud": True, "pictures": False})
    assert argv == ["--times=2", "--loud", "--set=--yes", "--no-pictures", "--", "--yes"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"word": 3},
        {"word": "x", "yes": True},
        {"word": "x", "times": 9},
        {"word": "x", "times": True},
        {"word": "x\x00"},
        {"word": "x", "many": "a"},
    ],
)
def test_an_input_that_does_not_fit_starts_nothing(echo, given):
    with pytest.raises(UsageError):
        echo.argv(given)
    assert tools.run_script(echo, given, cwd=Path("/")).exit_code == 2


def test_a_call_is_a_child_without_terminal_and_without_the_models_key(echo, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    result = tools.run_script(echo, {"word": "hello"}, cwd=tmp_path)
    assert result.text.startswith("exit 0\n")
    assert "'word': 'hello'" in result.text
    assert "False" in result.text.rpartition("}")[2]
    assert tools.run_script(echo, {"word": "3"}, cwd=tmp_path).exit_code == 3


def test_output_is_bounded(echo, tmp_path):
    result = tools.run_script(echo, {"word": "x" * 50_000}, cwd=tmp_path)
    assert len(result.text) < tools.MAX_STDOUT + 200
    assert "left out" in result.text


def test_a_missing_script_is_a_hard_stop(tmp_path):
    with pytest.raises(HardStop, match="not complete"):
        tools.load_tools(tmp_path, ("preflight",))


def test_the_skills_own_tools_offer_no_approval():
    present = tuple(n for n in tools.EXPOSED if (SCRIPTS / f"{n}.py").is_file())
    assert "preflight" in present
    loaded = tools.load_tools(SCRIPTS, present)
    assert not {"approve", "repair_run", "run_agent", "setup_env"} & set(tools.EXPOSED)
    for tool in loaded.values():
        assert not {"yes", "by", "confirm"} & set(tool.schema["properties"]), tool.name
        json.dumps(tool.as_param())
        assert tool.description


@pytest.fixture
def local(tmp_path):
    workspace = tmp_path / "workspace"
    run = workspace / "results" / "run_1"
    run.mkdir(parents=True)
    (run / "loop_log.jsonl").write_text("{}\n")
    (run / "kpi.json").write_text('{"far": 0.5, "x": "\x1b[2J"}')
    (tmp_path / "secret.txt").write_text("secret")
    (workspace / "link.txt").symlink_to(tmp_path / "secret.txt")
    return LocalTools(ROOT, workspace), run


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret.txt", "link.txt", "results/../../secret.txt"])
@pytest.mark.parametrize("tool", ["view_image", "read_run_file"])
def test_nothing_outside_the_workspace_is_read(local, tool, path):
    result = local[0].call(tool, {"path": path})
    assert result.exit_code == 3
    assert "secret" not in result.text.replace("secret.txt", "")


def test_run_files_are_shown_bounded_and_without_control_characters(local):
    tool, run = local
    (run / "long.txt").write_text("x" * 20_000)
    assert "more bytes" in tool.call("read_run_file", {"path": str(run / "long.txt")}).text
    assert "\x1b" not in tool.call("read_run_file", {"path": str(run / "kpi.json")}).text
    assert tool.call("read_run_file", {"path": str(run / "nothing.json")}).exit_code == 4
    (run / "weights.pth").write_bytes(b"x")
    assert tool.call("read_run_file", {"path": str(run / "weights.pth")}).exit_code == 2


def test_images_are_scaled_down_and_only_images_are_shown(local):
    from PIL import Image

    tool, run = local
    Image.new("L", (2000, 1000), 7).save(run / "a.png")
    result = tool.call("view_image", {"path": str(run / "a.png")})
    assert result.text == "2000 x 1000 pixels"
    assert result.image["source"]["media_type"] == "image/png"
    (run / "b.png").write_text("not an image")
    assert tool.call("view_image", {"path": str(run / "b.png")}).exit_code == 3


def test_findings_are_the_only_file_that_can_be_written(local, tmp_path):
    tool, run = local
    good = {"findings": [{"title": "FAR", "text": "It fell.", "evidence": [{"file": "kpi.json", "key": "/far", "value": 0.5}]}]}
    assert tool.call("write_findings", {"results_dir": str(run), "findings": good}).exit_code == 0
    elsewhere = [{"file": "/etc/x", "key": "/a", "value": 1}]
    unfounded = {"findings": [{"title": "FAR", "text": "It fell.", "evidence": []}]}
    for bad in (unfounded, {"findings": 3}, {"x": 1}, {"findings": [{"title": "F", "text": "It fell.", "evidence": elsewhere}]}):
        assert tool.call("write_findings", {"results_dir": str(run), "findings": bad}).exit_code == 3


def test_references_are_read_by_name(local):
    names = next(d for d in definitions(ROOT, reporter=False) if d["name"] == "read_reference")
    for name in names["input_schema"]["properties"]["name"]["enum"]:
        assert local[0].call("read_reference", {"name": name}).exit_code == 0
    assert local[0].call("read_reference", {"name": "../SKILL.md"}).exit_code == 2

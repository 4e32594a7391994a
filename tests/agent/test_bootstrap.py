"""Finding the skill's own interpreter, with real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import deft_aoi

SCRIPTS = Path(deft_aoi.__file__).parents[1]
SCRIPT = """\
import sys
sys.path.insert(0, {scripts!r})
from deft_aoi.cli import Result, run_main
import argparse
def run(args):
    import present_only_in_env
    return Result(text=sys.executable + " " + args.word)
def build_parser():
    p = argparse.ArgumentParser(); p.add_argument("word"); return p
sys.exit(run_main(build_parser, run, requires=("present_only_in_env",)))
"""


def start(tmp_path, *, env_has_module, finished=True):
    """A script that needs a module which only the skill's environment may have."""
    script = tmp_path / "verb.py"
    script.write_text(SCRIPT.format(scripts=str(SCRIPTS)))
    env = tmp_path / "data" / "deft-aoi" / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    if finished:
        (env / ".deft-aoi-ready.json").write_text(json.dumps({"lock_sha256": "x"}))
    if env_has_module:
        (next((env / "lib").glob("python3*")) / "site-packages" / "present_only_in_env.py").write_text("")
    return subprocess.run(
        [sys.executable, str(script), "a word"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")},
    )


def test_script_starts_again_under_the_skills_environment_with_the_same_arguments(tmp_path):
    done = start(tmp_path, env_has_module=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "data"))
    assert done.stdout.strip().endswith("a word")


def test_an_environment_that_lacks_the_module_is_exit_4_and_no_endless_loop(tmp_path):
    done = start(tmp_path, env_has_module=False)
    assert done.returncode == 4
    assert "present_only_in_env" in done.stderr
    assert "setup_env.py" in done.stderr


def test_a_half_made_environment_is_never_entered(tmp_path):
    done = start(tmp_path, env_has_module=True, finished=False)
    assert done.returncode == 4
    assert "setup_env.py" in done.stderr

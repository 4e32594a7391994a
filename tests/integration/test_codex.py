"""The real Codex CLI, offline: it installs the bundle and lists its skill in the prompt that a model gets.

``npm install @openai/codex`` puts it into ``node_modules/.bin/codex``: on the PATH, or named by ``DEFT_CODEX``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "tao-run-deft-aoi"
CLI = os.environ.get("DEFT_CODEX") or shutil.which("codex") or ""

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CLI, reason="no Codex CLI: npm install @openai/codex, and put it on the PATH or into DEFT_CODEX"),
]


def test_the_installed_plugin_s_skill_is_listed_and_its_file_is_the_whole_skill(tmp_path):
    subprocess.run([sys.executable, ROOT / "packaging" / "bundle.py", "--output", tmp_path], check=True, capture_output=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CODEX_HOME": str(tmp_path / "codex")}
    (tmp_path / "codex").mkdir()

    def codex(*words: str) -> str:
        done = subprocess.run([CLI, *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert f"{NAME}:" not in codex("debug", "prompt-input", "run the DEFT loop")
    codex("plugin", "marketplace", "add", str(tmp_path / NAME))
    codex("plugin", "add", f"{NAME}@deft-aoi")
    assert f"{NAME}:{NAME}: Runs the DEFT improvement loop" in codex("debug", "prompt-input", "run the DEFT loop")
    (skill,) = (tmp_path / "codex" / "plugins").rglob(f"skills/{NAME}/SKILL.md")
    assert "Pre-Flight Summary" in skill.read_text()
    assert (skill.parent / "../../scripts/preflight.py").is_file()

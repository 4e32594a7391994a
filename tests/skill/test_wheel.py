"""The wheel, built and installed for real: complete, and able to make the skill's environment and run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import deft_aoi

ROOT = Path(deft_aoi.__file__).parents[2]
DATA = "deft_aoi/_bundle/"


def pip(*arguments):
    done = subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what is tracked: a build leaves files beside the sources, and takes in what lies there."""
    if subprocess.run(["git", "rev-parse", "--git-dir"], cwd=ROOT, capture_output=True).returncode != 0:
        pytest.skip("the wheel is built from tracked files: this is not a git checkout")
    home = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (home / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, home / "source" / name)
    pip("wheel", "--no-deps", "-w", str(home / "dist"), str(home / "source"))
    return next((home / "dist").glob("deft_aoi-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An interpreter with the wheel and nothing else, a home of its own, and a function that runs ``deft``."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "bare", with_pip=False, symlinks=True)
    pip("--python", str(home / "bare/bin/python"), "install", "--no-deps", str(wheel))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "XDG_", "DEFT_"))} | {"HOME": str(home)}

    def deft(*arguments):
        command = [str(home / "bare/bin/deft"), *map(str, arguments)]
        return subprocess.run(command, cwd=home, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    return home, deft


def test_the_wheel_holds_everything_that_a_checkout_has_for_its_user(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {n.removeprefix(DATA): archive.read(n) for n in archive.namelist() if n.startswith(DATA)}
    wanted = ["SKILL.md", "requirements.lock", "requirements-torch.txt", "agents/reporter.md"]
    wanted += [f"{folder}/{p.name}" for folder in ("references", "schemas", "specs") for p in (ROOT / folder).iterdir()]
    wanted += [f"scripts/{p.name}" for p in (ROOT / "scripts").glob("*.py")]
    for name in wanted:
        assert inside.get(name) == (ROOT / name).read_bytes(), name
    assert len(inside["BUILD.sha256"].strip()) == 64


def test_without_packages_it_names_the_one_command_and_that_command_finds_its_lock_file(installed):
    _, deft = installed
    for arguments in (["check_data", "--workspace", "/nowhere"], ["setup-env", "--check"]):
        done = deft(*arguments)
        assert done.returncode == 4, done.stderr
        assert "deft setup_env" in done.stderr
        assert "lock file" not in done.stderr


@pytest.mark.integration
def test_setup_env_from_the_wheel_makes_an_environment_in_which_the_verbs_run(installed):
    home, deft = installed
    made = deft("setup-env", "--torch", "none")
    assert made.returncode == 0, made.stderr
    assert deft("setup_env", "--check").returncode == 0
    assert deft("make_demo_workspace", "--output", home / "w", "--scale", "small").returncode == 0
    assert deft("check_data", "--workspace", home / "w").returncode == 0
    # A wheel of another version is in place: its environment does not run it, and the next setup_env only copies it.
    build = next((home / "bare/lib").glob("python3*")) / "site-packages" / DATA / "BUILD.sha256"
    build.write_text("0" * 64 + "\n")
    other = deft("check_data", "--workspace", home / "w")
    assert other.returncode == 4, other.stderr
    assert "without this build" in deft("setup_env", "--check").stderr
    assert deft("setup_env", "--torch", "none").returncode == 0
    done = deft("preflight", "--workspace", home / "w", "--json")
    assert done.returncode in (0, 4), done.stderr  # 4: no PyTorch in this environment
    assert json.loads(done.stdout)

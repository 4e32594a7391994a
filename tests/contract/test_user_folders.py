"""Where the user's files are, on accounts as they are met: no home, a home that is no folder, relative variables."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import deft_aoi
from deft_aoi.cli import run_main
from deft_aoi.contract import paths, plans
from deft_aoi.contract.errors import Blocked
from deft_aoi.contract.user_folders import cannot_write, user_folder
from deft_aoi.platforms import credentials

SCRIPTS = Path(deft_aoi.__file__).parents[1]
KINDS = ("state", "cache", "data")


@pytest.fixture
def home(tmp_path, monkeypatch):
    for kind in KINDS:
        monkeypatch.delenv(f"XDG_{kind.upper()}_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("relative", ["", "here", "./here", "~/here"])
def test_a_relative_variable_is_ignored_by_everybody(home, monkeypatch, kind, relative):
    monkeypatch.setenv(f"XDG_{kind.upper()}_HOME", relative)
    assert user_folder(kind).startswith(str(home))
    assert Path(plans.plans_dir()).parent == paths.state_home()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_home_the_variable_to_set_is_named(home, monkeypatch, kind):
    (home / "file").touch()
    for bad in ("/dev/null", str(home / "file")):
        monkeypatch.setenv("HOME", bad)
        with pytest.raises(Blocked, match=f"{kind} files") as caught:
            user_folder(kind)
        assert f"XDG_{kind.upper()}_HOME" in caught.value.hint


def test_a_folder_that_cannot_be_made_is_named_and_other_files_are_not_meant(home):
    assert "XDG_CACHE_HOME" in cannot_write(OSError(30, "Read-only file system", str(home / ".cache"))).hint
    assert cannot_write(OSError(5, "Input/output error", "/somewhere/else")) is None
    assert cannot_write(OSError(30, "Read-only file system")) is None, "no file is named: a bug of ours, with its traceback"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_refuses_is_exit_4_with_its_file_and_no_bug(number, home, capsys):
    """A read-only file system, another user's run folder, a full disk or quota, in whatever command meets it."""

    def refused(_args):
        raise OSError(number, os.strerror(number), "/run_1/\x1b[2Jrun.lock")

    assert run_main(argparse.ArgumentParser, refused, []) == 4
    said = capsys.readouterr().err
    assert said.startswith("blocked: ")
    assert os.strerror(number) in said
    assert "run.lock" in said
    assert "\x1b" not in said
    assert "try: " in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_no_command_ends_because_the_terminal_lacks_a_sign(home, encoding):
    code = (
        "import argparse; from deft_aoi.cli import Result, run_main; "
        "run_main(argparse.ArgumentParser, lambda a: Result('短路 → ö', {}, 0), [])"
    )
    env = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(SCRIPTS), "HOME": str(home), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u77ed" in done.stdout


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NGC_API_KEY=abc", "abc"),
        ("\ufeffNGC_API_KEY=abc", "abc"),
        ("NGC_API_KEY=abc\r", "abc"),
        ("export NGC_API_KEY = abc # the team's key", "abc"),
        ("NGC_API_KEY='a b#c' # quoted", "a b#c"),
        ('NGC_API_KEY="abc"', "abc"),
        ("NGC_API_KEY=a#b", "a#b"),
        ("NGC_API_KEY=   # none yet", None),
        ("NGC_API_KEY=$OTHER", None),
    ],
)
def test_a_credentials_file_is_read_as_editors_and_people_write_it(tmp_path, line, value):
    (tmp_path / ".env").write_text(f"{line}\n", encoding="utf-8")
    environment: dict[str, str] = {}
    credentials.load(tmp_path / ".env", environment)
    assert environment.get("NGC_API_KEY") == value

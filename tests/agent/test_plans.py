"""The gate's three files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deft_aoi.contract import plans
from deft_aoi.contract.errors import HardStop

DIGEST = "ab" * 32
SCRIPTS = Path(plans.__file__).parents[2]


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_newest_pending_plan_is_found_without_its_digest():
    plans.write_pending({"digest": DIGEST, "workspace": "/w/a"})
    plans.write_pending({"digest": "cd" * 32, "workspace": "/w/b"})
    assert plans.read_pending()["workspace"] == "/w/b"
    assert plans.read_pending(DIGEST)["workspace"] == "/w/a"
    assert plans.read_pending("ef" * 32) is None


def test_approval_belongs_to_exactly_one_plan():
    plans.write_pending({"digest": DIGEST, "workspace": "/w"})
    path = Path(plans.write_approval(DIGEST, "terminal", "go " * 200, "s"))
    assert plans.read_approval(DIGEST)["how"] == "terminal"
    assert len(plans.read_approval(DIGEST)["words"]) == plans.MAX_WORDS
    assert plans.read_approval("cd" * 32) is None
    path.rename(path.with_name("cd" * 32 + ".approval.json"))
    with pytest.raises(HardStop):
        plans.read_approval("cd" * 32)


def test_nothing_is_approved_that_is_not_pending():
    with pytest.raises(HardStop):
        plans.write_approval(DIGEST, "terminal", "go")
    plans.write_pending({"digest": DIGEST, "workspace": "/w"})
    with pytest.raises(HardStop):
        plans.write_approval(DIGEST, "the model", "go")


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b'{"digest": "zz"}'])
def test_a_damaged_file_is_a_hard_stop_and_never_an_approval(damage):
    plans.write_pending({"digest": DIGEST, "workspace": "/w"})
    Path(plans.write_approval(DIGEST, "terminal", "go")).write_bytes(damage)
    with pytest.raises(HardStop):
        plans.read_approval(DIGEST)


def test_a_symbolic_link_is_refused(tmp_path):
    plans.write_pending({"digest": DIGEST, "workspace": "/w"})
    real = tmp_path / "elsewhere.json"
    real.write_text(json.dumps({"digest": DIGEST, "how": "terminal"}))
    (Path(plans.plans_dir()) / f"{DIGEST}.approval.json").symlink_to(real)
    with pytest.raises(HardStop):
        plans.read_approval(DIGEST)


@pytest.mark.parametrize("digest", ["", "..", "AB" * 32, "ab" * 31, "../" + "ab" * 30])
def test_a_digest_never_becomes_a_path(digest):
    with pytest.raises(HardStop):
        plans.read_approval(digest)


def test_files_are_private(tmp_path):
    path = Path(plans.write_pending({"digest": DIGEST, "workspace": "/w"}))
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_loading_the_module_imports_nothing_heavy():
    code = "import sys; before=set(sys.modules); import deft_aoi.contract.plans; print(*(set(sys.modules)-before))"
    out = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=True
    ).stdout.split()
    allowed = {
        "deft_aoi",
        "deft_aoi.contract",
        "deft_aoi.contract.plans",
        "deft_aoi.contract.user_folders",
        "__future__",
        "typing",
        "json",
        "time",
        "os",
    }
    heavy = {name for name in out if name.partition(".")[0] in {"pandas", "numpy", "pathlib", "dataclasses", "yaml"}}
    assert "deft_aoi.contract.plans" in out
    assert not heavy
    assert {n for n in out if n.startswith("deft_aoi")} <= allowed

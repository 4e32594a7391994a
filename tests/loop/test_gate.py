"""Nothing with a side effect starts without an approval of exactly this plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import FAST, deft, only_run


def _plan(workspace: Path, *extra: str) -> str:
    said = deft("preflight", "--workspace", workspace, *FAST, *extra, "--json")
    assert said.code == 0, said.out + said.err
    return said.json["digest"]


def _tree(workspace: Path) -> dict[str, bytes]:
    return {p.relative_to(workspace).as_posix(): p.read_bytes() for p in sorted(workspace.rglob("*")) if p.is_file()}


def test_preflight_writes_nothing_into_the_workspace_and_repeats_its_digest(workspace: Path) -> None:
    before = _tree(workspace)
    first, second = _plan(workspace), _plan(workspace)
    assert first == second
    assert _tree(workspace) == before
    assert _plan(workspace, "--seed", "7") != first


def test_summary_shows_every_value_with_its_source_and_ends_with_the_one_line(workspace: Path) -> None:
    said = deft("preflight", "--workspace", workspace, "--max-iterations", 2)
    assert said.code == 0
    assert "max iterations               2                                (user)" in said.out
    assert "(default)" in said.out
    assert "(spec)" in said.out
    assert re.fullmatch(r"  python3 /\S+/scripts/approve\.py [0-9a-f]{12}", said.out.rstrip().splitlines()[-1])
    assert all(len(line) < 400 for line in said.out.splitlines())


def test_the_limit_of_new_escapes_is_shown_and_part_of_the_plan(workspace: Path) -> None:
    said = deft("preflight", "--workspace", workspace, *FAST)
    assert f"new escapes allowed          {'as many as newly caught':32} (default)" in said.out
    strict = deft("preflight", "--workspace", workspace, *FAST, "--max-new-escapes", 0)
    assert f"new escapes allowed          {'0':32} (user)" in strict.out
    assert _plan(workspace, "--max-new-escapes", "0") != _plan(workspace)
    assert deft("preflight", "--workspace", workspace, "--max-new-escapes", -1).code == 2


def test_no_run_opens_without_an_approval(workspace: Path) -> None:
    digest = _plan(workspace)
    said = deft("init_deft_state", "--plan-digest", digest[:12])
    assert said.code == 5
    assert not (workspace / "results").exists()
    assert deft("run_loop", "--workspace", workspace, *FAST).code == 5
    assert not (workspace / "results").exists()


def test_wrong_characters_do_not_approve(workspace: Path) -> None:
    digest = _plan(workspace)
    wrong = "000000" if digest[-6:] != "000000" else "111111"
    assert deft("approve", digest[:12], "--confirm", wrong).code == 5
    assert deft("init_deft_state", "--plan-digest", digest[:12]).code == 5


def _change(workspace: Path, what: str) -> None:
    if what == "image":
        import numpy as np
        from PIL import Image

        victim = next((workspace / "kpi" / "images").rglob("*_*.*"))
        with Image.open(victim) as image:
            pixels = np.array(image.convert("RGB"))
        pixels[0, 0] ^= 255
        Image.fromarray(pixels).save(victim)
        return
    path = {
        "spec": workspace / "specs/baseline_spec.yaml",
        "training set": workspace / "train/base/training_set.csv",
        "KPI set": workspace / "kpi/testing_set.csv",
    }.get(what) or next((workspace / "augmentation/anomalygen/reconstructed_image").iterdir())
    data = path.read_bytes()
    path.write_bytes(data + (b"\n" if path.suffix in (".yaml", ".csv") else b"\0"))


@pytest.mark.parametrize("what", ["spec", "training set", "KPI set", "image", "synthetic pair"])
def test_one_changed_byte_closes_the_gate_again(workspace: Path, what: str) -> None:
    digest = _plan(workspace)
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    _change(workspace, what)
    said = deft("init_deft_state", "--plan-digest", digest[:12])
    assert said.code == 5, said.out + said.err
    assert "changed since" in said.err
    assert not (workspace / "results").exists()


def test_a_change_after_the_run_was_opened_stops_the_next_stage(workspace: Path) -> None:
    digest = _plan(workspace)
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    assert deft("init_deft_state", "--plan-digest", digest[:12]).code == 0
    run = only_run(workspace)
    _change(workspace, "spec")
    assert deft("run_stage", "--results-dir", run).code == 5
    assert not (run / "run/jobs").exists() or not list((run / "run/jobs").glob("*.job.json"))


def test_a_pool_that_grew_is_a_warning_not_a_new_gate(workspace: Path) -> None:
    digest = _plan(workspace)
    assert deft("approve", digest[:12], "--confirm", digest[-6:]).code == 0
    pool = workspace / "augmentation/mining_pool/mining_pool.csv"
    lines = pool.read_text().splitlines()
    pool.write_text("\n".join([*lines, lines[-1]]) + "\n")
    said = deft("init_deft_state", "--plan-digest", digest[:12])
    assert said.code == 0, said.err


def test_a_disk_that_cannot_hold_the_run_is_a_hard_stop_before_the_gate(workspace: Path) -> None:
    said = deft("preflight", "--workspace", workspace, "--training-epochs", 100000, "--max-iterations", 100)  # some terabytes
    assert said.code == 3
    assert "not enough free space for" in said.out
    assert "free space, or lower --max-iterations or --training-epochs" in said.out
    assert not (workspace / "results").exists()

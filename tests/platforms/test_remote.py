"""Remote platforms: the workspace must be seen there, and images are imported before any allocation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.loop.container_image_files import EVIDENCE, image_file, imported_image, require_same_image_file
from deft_aoi.loop.stages.assets import fetch_assets
from deft_aoi.platforms import shared_path

REFERENCE = "nvcr.io/nvidia/tao/tao-toolkit:7.1.0-pyt"


def command(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\necho "$0 $*" >> {folder}/calls\n{body}\n')
    (folder / name).chmod(0o755)


@pytest.fixture
def bin_dir(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def context(tmp_path: Path, *, air_gapped: bool = False, options: dict[str, str] | None = None) -> SimpleNamespace:
    config = SimpleNamespace(platform="slurm", encoder="pixels", platform_options=options or {}, air_gapped=air_gapped)
    images = {"visual_changenet": {"reference": REFERENCE}, "embedding": {"reference": REFERENCE}}
    workspace = SimpleNamespace(cache_dir=tmp_path / ".deft")
    return SimpleNamespace(spec={}, config=config, plan={"images": images}, workspace=workspace)


def test_an_image_is_imported_once_and_jobs_get_the_file(bin_dir, tmp_path):
    command(bin_dir, "enroot", 'test "$1 $2" = "import -o" && echo image > "$3"')
    ctx = context(tmp_path)
    outcome = fetch_assets(ctx, "run", 1)
    target = imported_image(ctx.config, ctx.workspace, REFERENCE)
    assert outcome.evidence["fetched"] == [target.name]
    assert outcome.evidence[EVIDENCE][str(target)]["sha256"] == sha256_file(target)
    assert "docker://nvcr.io#nvidia/tao/tao-toolkit:7.1.0-pyt" in (bin_dir / "calls").read_text()
    assert fetch_assets(ctx, "run", 2).evidence == {"fetched": [], EVIDENCE: outcome.evidence[EVIDENCE]}
    assert len((bin_dir / "calls").read_text().splitlines()) == 1


def test_a_killed_import_leaves_nothing_that_passes_for_an_image(bin_dir, tmp_path):
    command(bin_dir, "enroot", 'echo half > "$3"; exit 1')
    ctx = context(tmp_path)
    with pytest.raises(Blocked) as caught:
        fetch_assets(ctx, "run", 1)
    assert "container_image" in caught.value.hint
    assert not imported_image(ctx.config, ctx.workspace, REFERENCE).exists()
    command(bin_dir, "enroot", 'test ! -e "$3" && echo whole > "$3"')
    fetch_assets(ctx, "run", 2)
    assert imported_image(ctx.config, ctx.workspace, REFERENCE).read_text() == "whole\n"


def test_an_air_gapped_run_and_a_given_file_import_nothing(bin_dir, tmp_path):
    command(bin_dir, "enroot", "exit 0")
    with pytest.raises(Blocked):
        fetch_assets(context(tmp_path, air_gapped=True), "run", 1)
    given = context(tmp_path, options={"container_image": "/images/tao.sqsh"})
    assert fetch_assets(given, "run", 1).evidence == {"fetched": []}
    assert not (bin_dir / "calls").exists()


@pytest.mark.parametrize("whose", ["ours", "the user's"])
def test_an_image_file_that_changed_since_the_run_began_is_not_started(bin_dir, tmp_path, whose):
    command(bin_dir, "enroot", 'echo image > "$3"')
    users = tmp_path / "tao.sqsh"
    users.write_text("image\n")
    ctx = context(tmp_path, options={} if whose == "ours" else {"container_image": str(users)})
    events = [{"stage": "assets", "status": "ok", "data": fetch_assets(ctx, "run", 1).evidence}]
    file = image_file(ctx.config, ctx.workspace, REFERENCE)
    assert (file == users) is (whose != "ours")
    require_same_image_file(file, events)
    file.touch()  # another stamp, the same content
    require_same_image_file(file, events)
    file.write_text("imagf\n")
    with pytest.raises(HardStop, match="not the one that this run began with"):
        require_same_image_file(file, events)
    require_same_image_file(file, [])  # a run from before such files were on record
    file.unlink()
    with pytest.raises(HardStop) as caught:
        require_same_image_file(file, events)
    assert caught.value.found == "no file"


@pytest.mark.parametrize(
    ("body", "level"),
    [('shift 6; eval "$*"', "ok"), ("echo 0000 other", "missing"), ("echo No such file >&2; exit 1", "missing")],
)
def test_a_remote_login_node_must_see_this_very_workspace(bin_dir, tmp_path, body, level):
    witness = tmp_path / "baseline_spec.yaml"
    witness.write_text("task: classify\n")
    command(bin_dir, "ssh", body)
    (finding,) = shared_path.check("slurm", {"host": "login"}, tmp_path, witness)
    assert finding.level == level, finding.text
    assert shared_path.check("slurm", {}, tmp_path, witness) == []


def test_a_workspace_beside_the_claim_is_refused(tmp_path):
    inside, outside = tmp_path / "claim" / "ws", tmp_path / "ws"
    found = [
        shared_path.check("kubernetes", {"claim": "c", "claim_root": str(tmp_path / "claim")}, w, w)[0].level
        for w in (inside, outside)
    ]
    assert found == ["ok", "missing"]

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.manifests import verify_manifest
from deft_aoi.contract.schema import validate
from deft_aoi.record import publish


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "iter1" / "train"


def work(final: Path, text: str = "weights", inputs: str = "in") -> Path:
    attempt = Path(publish.attempt_dir(final, inputs_digest=inputs))
    (attempt / "sub").mkdir(exist_ok=True)
    (attempt / "sub" / "model.pth").write_text(text)
    return attempt


def tree(final: Path) -> dict[str, bytes]:
    top = final.parent
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def test_a_published_folder_is_adopted_by_its_digest(final):
    digest = publish.publish(work(final), final, inputs_digest="in", extra={"rows": 3})
    assert publish.adopt(final, inputs_digest="in") == digest
    assert verify_manifest(final) == []
    validate(json.loads((final / "_MANIFEST.json").read_text()), "manifest")
    assert sorted(p.name for p in final.parent.iterdir()) == ["train"]


def test_nothing_is_adopted_where_nothing_is(final):
    assert publish.adopt(final, inputs_digest="in") is None


def test_an_unfinished_attempt_keeps_its_folder(final):
    first = work(final)
    assert Path(publish.attempt_dir(final, inputs_digest="in")) == first
    assert (first / "sub" / "model.pth").exists()


def test_an_attempt_for_other_inputs_is_kept_aside_once(final):
    for inputs in ("one", "two", "three"):
        work(final, inputs, inputs)
    assert (final.parent / "train.stale" / "sub" / "model.pth").read_text() == "two"
    assert sorted(p.name for p in final.parent.iterdir() if p.is_dir()) == ["train.stale", "train.tmp-3"]


def test_killed_between_manifest_and_rename_is_adopted(final, monkeypatch):
    expected = tree_after_a_whole_run(final)
    attempt = work(final)
    with monkeypatch.context() as patch:
        patch.setattr(publish.os, "rename", _die)
        with pytest.raises(KeyboardInterrupt):
            publish.publish(attempt, final, inputs_digest="in")
    assert publish.adopt(final, inputs_digest="other") is None
    assert publish.adopt(final, inputs_digest="in") is not None
    assert tree(final) == expected


def tree_after_a_whole_run(final: Path) -> dict[str, bytes]:
    import shutil

    publish.publish(work(final), final, inputs_digest="in")
    found = tree(final)
    shutil.rmtree(final)
    return found


def _die(*_args: object) -> None:
    raise KeyboardInterrupt


def test_a_manifest_of_a_killed_attempt_vouches_for_nothing_once_work_goes_on(final):
    attempt = work(final)
    (attempt / "_MANIFEST.json").write_text("{}")
    assert publish.adopt(final, inputs_digest="in") is None
    assert not (Path(publish.attempt_dir(final, inputs_digest="in")) / "_MANIFEST.json").exists()


def test_temporary_files_of_a_killed_write_are_not_published(final):
    attempt = work(final)
    (attempt / "sub" / ".table.csv.4711.tmp").write_text("half")
    publish.publish(attempt, final, inputs_digest="in")
    assert sorted(tree(final)) == ["train/_MANIFEST.json", "train/sub/model.pth"]


def test_a_changed_published_folder_is_a_hard_stop(final):
    publish.publish(work(final), final, inputs_digest="in")
    (final / "sub" / "model.pth").write_text("weightz")
    with pytest.raises(HardStop, match="not what its manifest says"):
        publish.adopt(final, inputs_digest="in")


def test_a_published_folder_for_other_inputs_is_kept_aside(final):
    publish.publish(work(final), final, inputs_digest="in")
    assert publish.adopt(final, inputs_digest="new") is None
    assert (final.parent / "train.stale" / "_MANIFEST.json").exists()
    publish.publish(work(final, "new", "new"), final, inputs_digest="new")
    assert publish.adopt(final, inputs_digest="new")


def test_publishing_never_replaces(final):
    publish.publish(work(final), final, inputs_digest="in")
    attempt = work(final, "second")
    with pytest.raises(HardStop, match="exists already"):
        publish.publish(attempt, final, inputs_digest="in")
    assert (final / "sub" / "model.pth").read_text() == "weights"

"""A job that does not do its work but attacks: through what it leaves in the one folder that it may write."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import fsync_tree, open_log, read_json, sha256_file
from deft_aoi.engines import success
from deft_aoi.platforms import supervise
from deft_aoi.platforms.job_files import log_tail
from deft_aoi.record import publish

CANARY = secrets.token_hex(16)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


LEFT: dict[str, Callable[[Path, Path], None]] = {
    "a link to a file elsewhere": lambda out, far: (out / "x").symlink_to(far / "secret"),
    "a link to a folder elsewhere": lambda out, far: (out / "x").symlink_to(far),
    "a relative link that climbs": lambda out, far: (out / "x").symlink_to(f"../{far.name}/secret"),
    "a link below a folder": lambda out, far: ((out / "d").mkdir(), (out / "d" / "x").symlink_to(far / "secret")),
    "a link in the place of the scores": lambda out, far: (out / "inference.csv").symlink_to(far / "secret"),
    "a link in the place of the status": lambda out, far: (out / "status.json").symlink_to(far / "secret"),
    "a FIFO": lambda out, _far: os.mkfifo(out / "x"),
    "a FIFO in the place of the manifest": lambda out, _far: os.mkfifo(out / "_MANIFEST.json"),
    "a socket": lambda out, _far: _socket(out / "x"),
}


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """``(the job's folder, a folder elsewhere that holds a secret)``."""
    out, far = tmp_path / "train.tmp-1", tmp_path / "far"
    for folder in (out, far):
        folder.mkdir()
    (far / "secret").write_text(f"object_name,label,siamese_score\n{CANARY},PASS,0.5\n")
    return out, far


@pytest.mark.parametrize("what", LEFT)
def test_what_a_job_left_is_refused_and_nothing_from_elsewhere_is_read_or_waited_for(places, what: str) -> None:
    out, far = places
    LEFT[what](out, far)
    if "manifest" not in what:  # the driver removes a manifest that it did not write
        with pytest.raises(HardStop) as stop:
            success.check("inference", out, exit_code=0, log_path=out / "l", launched_ns=0)
        assert CANARY not in stop.value.render()
    fsync_tree(out)
    try:
        publish.publish(out, out.with_name("train"), inputs_digest="0" * 64)
    except HardStop as error:
        assert CANARY not in error.render()
        assert not out.with_name("train").exists()
    else:
        assert "manifest" in what
        assert not (out.with_name("train") / "_MANIFEST.json").is_fifo()


def test_a_link_to_a_file_of_the_same_folder_is_what_trainers_do(places) -> None:
    out, _far = places
    (out / "model.pth").write_bytes(b"x")
    (out / "latest.pth").symlink_to("model.pth")
    assert publish.publish(out, out.with_name("train"), inputs_digest="0" * 64)


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "FIFO"])
def test_a_log_is_never_written_through_what_the_job_put_in_its_place(places, kind: str, append: bool) -> None:
    """A driver that comes back opens the log again; by then the job may have put a link to ``~/.bashrc`` there."""
    out, far = places
    victim, log = far / "secret", out / "train.log"
    before = victim.read_bytes()
    if kind == "link":
        log.symlink_to(victim)
    elif kind == "dangling link":
        log.symlink_to(far / "new")
    elif kind == "hard link":
        log.hardlink_to(victim)
    else:
        os.mkfifo(log)
    if "link" in kind and kind != "hard link":
        with pytest.raises(HardStop):
            log_tail(log, 10)
    fd = open_log(log, append=append)
    os.write(fd, b"said")
    os.close(fd)
    assert victim.read_bytes() == before
    assert not (far / "new").exists()
    assert log.read_bytes() == b"said"
    os.close(open_log(log, append=append))
    assert log.read_bytes() == (b"said" if append else b"")


def test_both_writers_of_logs_use_that_one_way() -> None:
    from deft_aoi.platforms import docker_log

    for module in (supervise, docker_log):
        text = Path(module.__file__).read_text(encoding="utf-8")
        assert "open_log(" in text
        assert '.open("wb")' not in text
        assert 'log_path"], os.O_' not in text


def test_a_fifo_is_not_waited_for_where_a_file_is_digested_or_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    for read in (sha256_file, lambda path: read_json(path, what="record")):
        with pytest.raises(HardStop, match="not a regular file"):
            read(tmp_path / "x")

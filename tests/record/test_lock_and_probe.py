from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deft_aoi.contract.errors import Blocked, HardStop, RunLocked, UsageError
from deft_aoi.record import file_system, lock, log, log_file

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
HOLD = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from deft_aoi.record.lock import DriverLock\n"
    "with DriverLock(sys.argv[2]): print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def other_driver(run_dir: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(SCRIPTS), str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_driver_is_refused_and_told_who_holds_the_run(run_dir, other_driver):
    with pytest.raises(RunLocked) as caught, lock.DriverLock(run_dir):
        pass
    assert f"pid {other_driver.pid} on " in caught.value.found
    assert caught.value.exit_code == 6
    assert f"pid {other_driver.pid} on " in (lock.holder(run_dir) or "")


def test_a_killed_driver_leaves_no_lock(run_dir, other_driver):
    other_driver.kill()
    other_driver.wait()
    assert lock.holder(run_dir) is None
    with lock.DriverLock(run_dir):
        assert f"pid {os.getpid()}" in (lock.holder(run_dir) or "")
    assert lock.holder(run_dir) is None


def test_looking_never_turns_a_driver_away(run_dir):
    stop = threading.Event()
    looks = []

    def look() -> None:
        while not stop.is_set():
            looks.append(lock.holder(run_dir))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            with lock.DriverLock(run_dir):
                pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(looks) > 40


def test_a_driver_verifies_the_whole_record_and_lets_go_where_it_is_damaged(run_dir, begun):
    path = run_dir / "loop_log.jsonl"
    path.write_bytes(path.read_bytes().replace(b"assets", b"assetz", 1))
    with pytest.raises(HardStop, match="damaged"), lock.DriverLock(run_dir):
        pass
    assert lock.holder(run_dir) is None


def test_a_driver_rewrites_a_lost_view(run_dir, begun):
    whole = (run_dir / "deft_state.json").read_bytes()
    (run_dir / "deft_state.json").unlink()
    with lock.DriverLock(run_dir):
        assert (run_dir / "deft_state.json").read_bytes() == whole


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(UsageError), lock.DriverLock(tmp_path / "typo"):
        pass
    assert not (tmp_path / "typo").exists()


def _without_flock(monkeypatch, folder: Path) -> None:
    """The run's file system has no flock (NFS with nolock, some FUSE); this machine's own disk has."""
    real = fcntl.flock

    def flock(fd: int, operation: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder)):
            raise OSError(errno.ENOLCK, "No locks available")
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_flock_one_driver_still_holds_on_its_own_disk(run_dir, append, monkeypatch):
    _without_flock(monkeypatch, run_dir)
    with lock.DriverLock(run_dir):
        assert append("run", "approve").seq == 1
        assert "pid" in (lock.holder(run_dir) or "")
        with pytest.raises(RunLocked), lock.DriverLock(run_dir):
            pass
    assert len(log.read(run_dir)) == 1


def test_the_probe_tells_a_lock_that_locks_nothing(tmp_path, monkeypatch):
    assert file_system.probe(tmp_path) == {"flock": True, "fsync": True, "rename": True}
    monkeypatch.setattr(fcntl, "flock", lambda _fd, _operation: None)
    assert file_system.probe(tmp_path)["flock"] is False
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_rename_cannot_hold_a_run(tmp_path, monkeypatch):
    def refuse(_src: str, _dst: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(file_system.os, "replace", refuse)
    with pytest.raises(Blocked, match="cannot hold a run"):
        file_system.probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "network"), [("nfs4", True), ("lustre", True), ("fuse.sshfs", True), ("ext4", False), ("tmpfs", False)]
)
def test_file_systems_are_named_from_the_mount_table(tmp_path, monkeypatch, kind, network):
    home = tmp_path / "a b"
    home.mkdir()
    table = tmp_path / "mountinfo"
    mount = str(home).replace(" ", "\\040")
    table.write_text(f"1 0 8:1 / / rw - ext4 /dev/x rw\n2 1 0:9 / {mount} rw,relatime shared:1 - {kind} server:/x rw\n")
    real = open
    monkeypatch.setattr("builtins.open", lambda p, *a, **k: real(table if p == "/proc/self/mountinfo" else p, *a, **k))
    found = file_system.describe(home / "run")
    assert (found.kind, found.network) == (kind, network)


def test_a_busy_record_is_refused_after_its_time(run_dir, begun, monkeypatch):
    monkeypatch.setattr(log_file, "LOCK_TIMEOUT_SEC", 0.2)
    fd = os.open(run_dir / "run" / "log.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(RunLocked):
            begun("run", "note")
    finally:
        os.close(fd)
    assert begun("run", "note").seq == 4


def test_a_queue_that_moves_is_waited_for(run_dir, begun, monkeypatch):
    monkeypatch.setattr(log_file, "LOCK_TIMEOUT_SEC", 0.4)
    queue = run_dir / "queue"
    queue.write_bytes(b"")
    monkeypatch.setattr(log_file, "LOG", queue.name)
    fd = os.open(run_dir / "run" / "log.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def others() -> None:
        for _line in range(12):  # each within the timeout, together beyond it
            threading.Event().wait(0.1)
            with queue.open("ab") as handle:
                handle.write(b"x")
        os.close(fd)

    thread = threading.Thread(target=others)
    thread.start()
    taken = log_file.take_lock(str(run_dir / "run" / "log.lock"), str(run_dir))
    thread.join()
    assert queue.stat().st_size == 12
    os.close(taken)

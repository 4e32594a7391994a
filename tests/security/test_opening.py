"""What is opened is a regular file, and no link lies on the way to it, whoever exchanges what meanwhile; two ways, one answer."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deft_aoi.contract import regular
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import copy_hashed
from deft_aoi.contract.paths import resolve_under
from deft_aoi.contract.regular import open_regular
from deft_aoi.mining.defect_types import read_defect_spec

from .test_images import picture

SAID = {
    "file": b"here", "up and down": b"here", "relative": b"here",
    "link": "not a regular file", "dangling link": "not a regular file", "FIFO": "not a regular file",
    "socket": "not a regular file", "folder": "not a regular file", "device": "not a regular file",
    "linked folder": "reached through a symbolic link", "linked folder far above": "reached through a symbolic link",
    "missing": FileNotFoundError, "missing folder": FileNotFoundError, "empty": FileNotFoundError,
    "below a file": NotADirectoryError, "NUL": ValueError, "too long": OSError,
}  # fmt: skip


def _places(root: Path) -> dict[str, str]:
    real = root / "real" / "deep"
    real.mkdir(parents=True)
    (real / "file").write_bytes(b"here")
    (real / "link").symlink_to(real / "file")
    (real / "dangling").symlink_to(root / "nothing")
    (root / "linked").symlink_to(real)
    (root / "above").symlink_to(root / "real")
    os.mkfifo(real / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(real / "socket"))
    return {
        "file": f"{real}/file", "up and down": f"{real}/../deep/file", "relative": os.path.relpath(real / "file"),
        "link": f"{real}/link", "dangling link": f"{real}/dangling", "FIFO": f"{real}/fifo", "socket": f"{real}/socket",
        "folder": f"{real}", "device": "/dev/null", "linked folder": f"{root}/linked/file",
        "linked folder far above": f"{root}/above/deep/file", "missing": f"{real}/gone", "missing folder": f"{root}/gone/file",
        "empty": "", "below a file": f"{real}/file/more", "NUL": f"{real}/fi\0le", "too long": f"{real}/{'x' * 300}",
    }  # fmt: skip


WAYS: dict[str, Callable[[], object] | None] = {
    "by the kernel": None,
    "unknown to the kernel": lambda: lambda _path: (-1, errno.ENOSYS),
    "forbidden by a container": lambda: lambda _path: (-1, errno.EPERM),
    "not Linux": lambda: None,
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if WAYS[request.param] is not None:
        monkeypatch.setattr(regular, "_openat2", WAYS[request.param])
    return request.param


@pytest.mark.usefixtures("way")
def test_each_way_of_opening_says_the_same(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    places = _places(Path(os.path.realpath(tmp_path)))
    assert places.keys() == SAID.keys()
    for name, path in places.items():
        said = SAID[name]
        if isinstance(said, bytes):
            assert _all_of(open_regular(path)) == said, name
        elif isinstance(said, str):
            with pytest.raises(HardStop, match=said):
                open_regular(path)
        else:
            with pytest.raises(said):
                open_regular(path)
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


def test_the_kernel_is_asked_again_when_a_signal_came(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"here")
    answers = [(-1, errno.EINTR), (-1, errno.EINTR), (os.open(tmp_path / "file", os.O_RDONLY), 0)]
    monkeypatch.setattr(regular, "_openat2", lambda: lambda _path: answers.pop(0))
    assert _all_of(open_regular(tmp_path / "file")) == b"here"
    assert not answers


def _exchanged(folder: Path, outside: Path, stop: threading.Event, rounds: list[int]) -> None:
    """Exchange a folder for a link to another and back, as fast as it goes."""
    aside = folder.with_name("aside")
    while not stop.is_set():
        folder.rename(aside)
        folder.symlink_to(outside)
        folder.unlink()
        aside.rename(folder)
        rounds[0] += 1


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("way", ["by the kernel", "not Linux"], indirect=True)
def test_a_folder_exchanged_for_a_link_is_never_read_through(tmp_path: Path) -> None:
    """Every reader, copier and digester of data, against a thread that exchanges the folder thousands of times."""
    folder, outside = tmp_path / "ws" / "data", tmp_path / "outside"
    for place, canary in ((folder, b""), (outside, b"canary77")):
        place.mkdir(parents=True)
        picture().save(place / "i.png")
        with (place / "i.png").open("ab") as handle:
            handle.write(canary)
        cells = "a,g,PASS,canary77,b" if canary else "a,g,PASS,C1,b"
        (place / "t.csv").write_text(f"input_path,golden_path,label,object_name,boardname\n{cells}\n")
        (place / "s.yaml").write_text(f"a: {canary.decode() or 'fine'}\n")
        (place / "d.jsonl").write_text(json.dumps({"defect_type": canary.decode() or "open", "stems": ["a"]}) + "\n")
    stop, rounds, read, refused = threading.Event(), [0], 0, 0
    thread = threading.Thread(target=_exchanged, args=(folder, outside, stop, rounds))
    thread.start()
    copy = tmp_path / "copy"
    readers = (
        lambda: copy_hashed(folder / "i.png", copy) and copy.read_bytes(),
        lambda: _all_of(open_regular(folder / "i.png")),
        lambda: read_changenet_csv(folder / "t.csv", what="pool").to_csv().encode(),
        lambda: json.dumps(specs.load_spec(folder / "s.yaml")).encode(),
        lambda: repr(read_defect_spec(folder / "d.jsonl")).encode(),
        lambda: _all_of(open_regular(resolve_under(tmp_path / "ws", "data", "i.png"))),
    )
    try:
        end = time.monotonic() + 60
        while (rounds[0] < 3000 or read < 300 or refused < 300) and time.monotonic() < end:
            for reader in readers:
                try:
                    found = reader()
                except (HardStop, OSError) as error:
                    refused += 1
                    assert "canary77" not in str(error)
                else:
                    read += 1
                    assert b"canary77" not in found
    finally:
        stop.set()
        thread.join()
    assert rounds[0] >= 1000, rounds
    assert read >= 100, read
    assert refused >= 100, refused


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("way", ["by the kernel", "not Linux"], indirect=True)
def test_a_file_that_is_replaced_while_it_is_opened_is_read_all_the_same(tmp_path: Path) -> None:
    """Every file of ours is replaced by renaming a new one over it; whoever reads beside the writer is not refused."""
    path, stop = tmp_path / "state.json", threading.Event()
    path.write_bytes(b"0")

    def replace() -> None:
        new = tmp_path / "new"
        while not stop.is_set():
            new.write_bytes(b"1")
            new.replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(10_000):
            assert _all_of(open_regular(path)) in (b"0", b"1")
    finally:
        stop.set()
        thread.join()


def _all_of(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as handle:
        return handle.read()

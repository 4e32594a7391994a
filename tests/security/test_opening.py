"""What is opened is a regular file, and no link lies on the way to it, whoever exchanges what meanwhile; two ways, one answer."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deft_aoi.contract import safe_open
from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import copy_hashed
from deft_aoi.contract.manifests import list_files, write_manifest
from deft_aoi.contract.paths import Workspace, resolve_under
from deft_aoi.contract.safe_open import open_regular
from deft_aoi.loop.open_run import _folder
from deft_aoi.mining.defect_types import read_defect_spec
from deft_aoi.mining.pregen_scan import scan
from deft_aoi.mining.pregen_staging import stage
from deft_aoi.platforms import credentials

from .pregen import pregen, stage_all
from .test_images import picture

SAID = {
    "file": b"here",
    "up and down": b"here",
    "relative": b"here",
    "link": "not a regular file",
    "dangling link": "not a regular file",
    "FIFO": "not a regular file",
    "socket": "not a regular file",
    "folder": "not a regular file",
    "device": "not a regular file",
    "linked folder": "reached through a symbolic link",
    "linked folder far above": "reached through a symbolic link",
    "missing": FileNotFoundError,
    "missing folder": FileNotFoundError,
    "empty": FileNotFoundError,
    "below a file": NotADirectoryError,
    "NUL": ValueError,
    "too long": OSError,
}


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
        "file": f"{real}/file",
        "up and down": f"{real}/../deep/file",
        "relative": os.path.relpath(real / "file"),
        "link": f"{real}/link",
        "dangling link": f"{real}/dangling",
        "FIFO": f"{real}/fifo",
        "socket": f"{real}/socket",
        "folder": f"{real}",
        "device": "/dev/null",
        "linked folder": f"{root}/linked/file",
        "linked folder far above": f"{root}/above/deep/file",
        "missing": f"{real}/gone",
        "missing folder": f"{root}/gone/file",
        "empty": "",
        "below a file": f"{real}/file/more",
        "NUL": f"{real}/fi\0le",
        "too long": f"{real}/{'x' * 300}",
    }


WAYS: dict[str, Callable[[], object] | None] = {
    "by the kernel": None,
    "unknown to the kernel": lambda: lambda _path: (-1, errno.ENOSYS),
    "forbidden by a container": lambda: lambda _path: (-1, errno.EPERM),
    "not Linux": lambda: None,
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if WAYS[request.param] is not None:
        monkeypatch.setattr(safe_open, "_openat2", WAYS[request.param])
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
    monkeypatch.setattr(safe_open, "_openat2", lambda: lambda _path: answers.pop(0))
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
        for _turn in range(200_000):  # ends long before, but a machine without a second processor may exchange seldom
            if rounds[0] >= 1000 and min(read, refused) >= 100:
                break
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


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "FIFO", "folder link", "a link in place of the folder"])
def test_staging_never_copies_what_lies_elsewhere(tmp_path: Path, kind: str) -> None:
    """The canary outside the workspace must not come into the staged folder, whatever way it is offered."""
    workspace = pregen(tmp_path / "ws", "s1", "s2")
    canary = secrets.token_bytes(24)
    outside = tmp_path / "secret.png"
    picture().save(outside)
    outside.write_bytes(outside.read_bytes() + canary)
    victim = workspace.pregen_ng / "s1.png"
    victim.unlink()
    if kind == "symbolic link":
        victim.symlink_to(outside)
    elif kind == "hard link":
        victim.hardlink_to(outside)
    elif kind == "FIFO":
        os.mkfifo(victim)
    elif kind == "folder link":
        (tmp_path / "far").mkdir()
        outside.rename(tmp_path / "far" / "s1.png")
        (workspace.pregen_ng / "s2.png").unlink()
        workspace.pregen_ng.rmdir()
        workspace.pregen_ng.symlink_to(tmp_path / "far")
    else:
        victim.mkdir()
        (victim / "x").symlink_to(outside)
    with pytest.raises(HardStop):
        stage_all(workspace)
    staged = workspace.root / "out"
    assert not staged.exists() or all(canary not in (staged / rel).read_bytes() for rel in list_files(staged))


def test_staging_copies_what_it_checked_or_stops(tmp_path: Path) -> None:
    """Swapped for a link between the check and the copy: the copy refuses; a folder's manifest refuses a link that leaves it."""
    workspace = pregen(tmp_path / "ws", "s1")
    pairs = scan(workspace, ("L",), ".png")
    victim = workspace.pregen_ng / "s1.png"
    victim.rename(tmp_path / "away.png")
    victim.symlink_to(tmp_path / "away.png")
    with pytest.raises(HardStop):
        stage(pairs, workspace.root / "out", workspace=workspace, final_dir=workspace.root / "out")
    with pytest.raises(HardStop):
        copy_hashed(victim, tmp_path / "copy")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").symlink_to("../../etc/passwd")
    with pytest.raises(HardStop):
        write_manifest(tmp_path / "folder", inputs_digest="0" * 64)


@pytest.mark.parametrize("name", ["results", ".deft"])
def test_a_workspace_whose_own_folders_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / name).symlink_to(tmp_path)
    with pytest.raises(HardStop, match="symbolic link"):
        Workspace.at(tmp_path / "ws")


@pytest.mark.parametrize("name", ["run", "run/adopted", "run/jobs", "run/logs", "loop_log.jsonl"])
def test_a_prepared_results_folder_with_a_link_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "ws" / "results" / "run_1"
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(tmp_path)
    with pytest.raises(HardStop, match="symbolic link"):
        _folder(Workspace(tmp_path / "ws"), root, None)


def test_a_fifo_in_the_place_of_the_credentials_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".env")
    assert credentials.read_file(tmp_path / ".env") == {}

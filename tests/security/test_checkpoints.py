"""A checkpoint from outside is judged by its opcodes and never unpickled."""
# ruff: noqa: E501 - tables of attacks and commands are read line by line

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from deft_aoi.contract.checkpoint_scan import ALLOWED, CheckpointRefused, scan_checkpoint
from deft_aoi.contract.errors import HardStop
from deft_aoi.engines.embedded import checkpoint as embedded

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


class Runs:
    """An object whose pickle calls what it is given."""

    def __init__(self, call, *args) -> None:
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def archive(path: Path, data: bytes, *, extra: dict[str, bytes] | None = None, top: str = "archive", compress: int = 0) -> Path:
    """A zip as PyTorch writes it, around ``data`` as its pickle."""
    with zipfile.ZipFile(path, "w", compress) as target:
        target.writestr(f"{top}/data.pkl", data)
        target.writestr(f"{top}/version", b"3\n")
        for name, content in (extra or {}).items():
            target.writestr(name, content)
    return path


def _stack_global(module: str, name: str, *, between: bytes = b"") -> bytes:
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    return b"\x80\x04" + text(module) + between + text(name) + b"\x93" + text("touch PWNED") + b"\x85R."


HOSTILE_PICKLES = {
    "os.system by reduce, protocol 2": pickle.dumps(Runs(os.system, "touch PWNED"), 2),
    "os.system by reduce, protocol 4": pickle.dumps(Runs(os.system, "touch PWNED"), 4),
    "os.system by reduce, protocol 0": pickle.dumps(Runs(os.system, "touch PWNED"), 0),
    "eval": pickle.dumps(Runs(eval, "open('PWNED', 'w')"), 2),
    "getattr": pickle.dumps(Runs(getattr, {}, "keys"), 2),
    "subprocess": pickle.dumps(Runs(subprocess.call, ["touch", "PWNED"]), 2),
    "loads again": pickle.dumps(Runs(torch.storage._load_from_bytes, b"x"), 2),
    "pickle in pickle": pickle.dumps(Runs(pickle.loads, pickle.dumps(Runs(os.system, "touch PWNED"))), 2),
    "torch.load": pickle.dumps(Runs(torch.load, "x.pth"), 2),
    "torch.hub": pickle.dumps(Runs(torch.hub.load, "a/b", "c"), 2),
    "INST": b"(S'touch PWNED'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch PWNED'\no.",
    "STACK_GLOBAL": _stack_global("posix", "system"),
    "STACK_GLOBAL with a memo in between": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93.",
    "STACK_GLOBAL with a name from the middle of the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x8c\x04dict0\x93.",
    "STACK_GLOBAL with an overwritten memo": b"\x80\x04\x8c\x08builtins\x94\x8c\x04dict\x94\x8c\x05posixq\x000h\x00h\x01\x93.",
    "STACK_GLOBAL after a tuple": b"\x80\x04\x8c\x05posix\x8c\x06system\x86\x8c\x04dict\x93.",
    "dotted name": _stack_global("builtins", "dict.__init__"),
    "a module with a space": b"cbuiltins dict\nsystem\n.",
    "Python 2's eval": b"c__builtin__\neval\n(S'1'\ntR.",
    "extension registry": b"\x80\x02\x82\x01.",
    "no end": pickle.dumps({"a": 1}, 2)[:-1],
    "cut": pickle.dumps({"a": list(range(50))}, 2)[:20],
    "no pickle": b"\xff\xfe\x00garbage",
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE_PICKLES)
def test_a_pickle_that_does_more_than_build_tensors_is_refused(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "evil.pth", HOSTILE_PICKLES[name])
    with pytest.raises(CheckpointRefused):
        scan_checkpoint(path)
    with pytest.raises(embedded.CheckpointError):
        embedded.load(path, torch.device("cpu"))
    assert not (tmp_path / "PWNED").exists()


GOOD = pickle.dumps({"state_dict": collections.OrderedDict(), "epoch": 1}, 2)


def _hostile_files(folder: Path) -> dict[str, Path]:
    made = {}
    bare = folder / "bare.pth"
    bare.write_bytes(pickle.dumps(Runs(os.system, "touch PWNED"), 2))
    made["a bare pickle"] = bare
    legacy = folder / "legacy.pth"
    torch.save({"a": torch.ones(2)}, legacy, _use_new_zipfile_serialization=False)
    made["PyTorch's old format"] = legacy
    whole = archive(folder / "whole.pth", GOOD).read_bytes()
    for cut in (1, 22, len(whole) // 2, len(whole) - 3):
        made[f"cut by {cut} bytes"] = folder / f"cut{cut}.pth"
        made[f"cut by {cut} bytes"].write_bytes(whole[:-cut])
    made["bytes before"] = folder / "before.pth"
    made["bytes before"].write_bytes(pickle.dumps(Runs(os.system, "touch PWNED"), 2) + whole)
    made["bytes after"] = folder / "after.pth"
    made["bytes after"].write_bytes(whole + b"x")
    made["empty"] = folder / "empty.pth"
    made["empty"].write_bytes(b"")
    inner = archive(folder / "inner.zip", HOSTILE_PICKLES["eval"]).read_bytes()
    made["nested zip"] = archive(folder / "nested.pth", GOOD, extra={"archive/inner.zip": inner})
    made["a second pickle"] = archive(folder / "two.pth", GOOD, extra={"archive/other.pkl": HOSTILE_PICKLES["eval"]})
    made["two data.pkl"] = archive(folder / "tops.pth", GOOD, extra={"other/data.pkl": GOOD})
    made["TorchScript"] = archive(folder / "script.pth", GOOD, extra={"archive/code/__torch__.py": b"import os"})
    made["path traversal"] = archive(folder / "up.pth", GOOD, extra={"../../up": b"x"})
    made["compressed"] = archive(folder / "deflated.pth", GOOD, extra={"archive/data/0": b"\0" * 5_000_000}, compress=8)
    made["no pickle at all"] = folder / "none.pth"
    with zipfile.ZipFile(made["no pickle at all"], "w") as target:
        target.writestr("archive/version", b"3")
    made["zip comment"] = folder / "comment.pth"
    with zipfile.ZipFile(made["zip comment"], "w") as target:
        target.writestr("archive/data.pkl", GOOD)
        target.comment = b"PK\x05\x06 look here"
    flipped = bytearray(whole)
    flipped[whole.index(b"state_dict")] ^= 1
    made["a changed byte"] = folder / "crc.pth"
    made["a changed byte"].write_bytes(bytes(flipped))
    link = folder / "link.pth"
    link.symlink_to(bare)
    made["symbolic link"] = link
    os.mkfifo(folder / "fifo.pth")
    made["FIFO"] = folder / "fifo.pth"
    return made


def test_a_file_that_is_not_a_whole_archive_as_torch_writes_it_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = _hostile_files(tmp_path)
    assert len(made) >= 18
    for name, path in made.items():
        with pytest.raises(HardStop):
            scan_checkpoint(path)
            pytest.fail(f"{name} was accepted")
    assert not (tmp_path / "PWNED").exists()


def tao_like(path: Path) -> Path:
    """A checkpoint with everything that TAO's Lightning trainer keeps in one."""
    import numpy as np

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 9])
    content = {
        "epoch": 4,
        "global_step": 60,
        "pytorch-lightning_version": "2.5.5",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": "/r/train"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [schedule.state_dict()],
        "hparams_name": "experiment_spec",
        "hyper_parameters": OmegaConf.create({"train": {"num_epochs": 5, "list": [1, "a", None]}}),
        "tao_model": "visual_changenet_classify",
        "tao_model_type": "radio_learnable",
        "extra": {
            "mean": np.float64(0.5),
            "array": np.arange(4),
            "dtype": torch.float16,
            "size": torch.Size([1, 2]),
            "half": torch.ones(2).half(),
            "parameter": torch.nn.Parameter(torch.ones(2)),
            "set": {1, 2},
            "default": collections.defaultdict(list),
        },
    }
    torch.save(content, path)
    return path


def test_what_trainers_really_write_is_accepted(tmp_path: Path) -> None:
    facts = scan_checkpoint(tao_like(tmp_path / "model_epoch_004_step_00060.pth"))
    assert "omegaconf.dictconfig.DictConfig" in facts.names
    plain = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(3, 3).state_dict(), plain)
    assert scan_checkpoint(plain).names == ("collections.OrderedDict", "torch.FloatStorage", "torch._utils._rebuild_tensor_v2")
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer, pickle_protocol=4)
    plain.write_bytes(buffer.getvalue())
    assert scan_checkpoint(plain).opcodes > 5


def test_a_real_lightning_checkpoint_is_accepted(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="PyTorch Lightning is not installed")

    class Small(lightning.LightningModule):
        def __init__(self, width: int = 4, note: str = "x") -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)

        def training_step(self, batch, _index):
            return self.layer(batch[0]).mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 4)))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False
    )
    trainer.fit(Small(), data)
    found = list(tmp_path.rglob("*.ckpt"))
    assert found
    assert scan_checkpoint(found[0]).opcodes > 100


def test_the_scan_does_not_import_torch(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.pth", GOOD)
    code = f"import sys; from deft_aoi.contract.checkpoint_scan import scan_checkpoint as s; s({str(path)!r}); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(SCRIPTS)}, timeout=60
    )
    assert done.stdout.strip() == "False", done.stderr


def test_nothing_on_the_list_evaluates_imports_opens_or_loads() -> None:
    listed = {f"{module}.{name}" for module, names in ALLOWED.items() for name in names}
    for word in (
        "eval",
        "exec",
        "compile",
        "open",
        "getattr",
        "setattr",
        "__import__",
        "system",
        "load",
        "partial",
        "methodcaller",
        "run",
    ):
        assert not [name for name in listed if word in name.split(".")[-1]], word


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_bytes_give_a_refusal_or_the_same_globals(tmp_path: Path, data: st.DataObject) -> None:
    seed = archive(tmp_path / "seed.pth", pickle.dumps({"a": collections.OrderedDict(x=1)}, 4)).read_bytes()
    body = bytearray(seed)
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=4)):
        body[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.pth"
    path.write_bytes(bytes(body))
    try:
        facts = scan_checkpoint(path)
    except CheckpointRefused:
        return
    assert facts.names == ("collections.OrderedDict",)

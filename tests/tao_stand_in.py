"""Stands in for NVIDIA's console commands where there is no TAO and no GPU.

It takes TAO's own command line, keeps what it was given (the spec, the overrides), and leaves TAO's files: status lines,
checkpoints by TAO's names, an inference CSV in TAO's columns, an embedding table. It learns nothing: a score is how far a
part's pixels are from its golden's. Like TAO it refuses a set with fewer rows than one batch and a checkpoint that is not
there. So the whole loop can be driven with ``--engine tao``, and every spec that it emits can be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOLS = ("visual_changenet", "embedding")
_SMI = "#!/bin/sh\necho '0, GPU-00000000-stand-in, NVIDIA H200, 143771'\n"


@dataclass(frozen=True)
class Call:
    """One command that the loop gave.

    Attributes:
        tool: ``visual_changenet`` or ``embedding``.
        subtask: its subtask.
        spec_path: the spec as it was given.
        spec: its content.
        overrides: ``key=value`` words after it.
    """

    tool: str
    subtask: str
    spec_path: str
    spec: dict[str, Any]
    overrides: tuple[str, ...]

    @property
    def stage(self) -> str:
        """The spec's own name: ``baseline-train``, ``iter1-inference``, ``run-holdout`` …"""
        return Path(self.spec_path).stem


def install(folder: Path) -> Path:
    """Put the commands into ``folder/bin``; returns the interpreter to name as ``--tao-python``."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    (folder / "calls").mkdir()
    for tool in TOOLS:
        (commands / tool).write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport tao_stand_in\n"
            f"tao_stand_in.main({tool!r}, {str(folder)!r}, sys.argv[1:])\n"
        )
    (commands / "nvidia-smi").write_text(_SMI)
    (commands / "python").symlink_to(sys.executable)
    for path in commands.iterdir():
        if not path.is_symlink():
            path.chmod(0o755)
    return commands / "python"


def die_in_the_next_training(folder: Path) -> None:
    """The next training is killed, with its supervisor, after its first checkpoint."""
    (folder / "die").touch()


def calls(folder: Path) -> list[Call]:
    """What was asked for so far, in order."""
    found = [json.loads(p.read_text()) for p in sorted((folder / "calls").iterdir())]
    return [Call(**{**c, "overrides": tuple(c["overrides"])}) for c in found]


def main(tool: str, folder: str, argv: list[str]) -> None:
    """One command."""
    import yaml

    subtask, flag, spec_path, *overrides = argv
    assert flag == "-e", argv
    spec = yaml.safe_load(Path(spec_path).read_text())
    kept = Path(folder) / "calls"
    number = len(list(kept.iterdir()))
    call = {"tool": tool, "subtask": subtask, "spec_path": spec_path, "spec": spec, "overrides": overrides}
    (kept / f"{number:03}.json").write_text(json.dumps(call))
    given = dict(word.split("=", 1) for word in overrides)
    if tool == "embedding":
        _embed(given)
        return
    out = Path(given[f"{subtask}.results_dir"])
    out.mkdir(parents=True, exist_ok=True)
    say = _Status(out / "status.json")
    say(f"Starting Visual ChangeNet {subtask}.", status="STARTED")
    if subtask == "train":
        _train(spec, given, out, say, Path(folder) / "die")
    else:
        _infer(spec, given, out)
    shutil.copyfile(spec_path, out / "experiment.yaml")
    say(f"{subtask.capitalize()} finished successfully.")


class _Status:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, message: str, status: str = "RUNNING", **more: Any) -> None:
        now = time.localtime()
        line = {
            **more,
            "date": f"{now.tm_mon}/{now.tm_mday}/{now.tm_year}",
            "time": f"{now.tm_hour}:{now.tm_min}:{now.tm_sec}",
            "status": status,
            "verbosity": "INFO",
            "message": message,
        }
        with self._path.open("a") as handle:
            handle.write(json.dumps(line) + "\n")


def _rows(spec: dict[str, Any], split: str) -> Any:
    import pandas as pd

    data = spec["dataset"]["classify"]
    frame = pd.read_csv(data[f"{split}_dataset"]["csv_path"], dtype={"object_name": str})
    if len(frame) < data["batch_size"]:
        raise ValueError(f"Dataset size ({len(frame)}) is smaller than the total batch size ({data['batch_size']})")
    return frame


def _train(spec: dict[str, Any], given: dict[str, str], out: Path, say: _Status, die: Path) -> None:
    steps = len(_rows(spec, "train")) // spec["dataset"]["classify"]["batch_size"]
    _rows(spec, "validation")
    for key in ("pretrained_model_path", "resume_training_checkpoint_path"):
        named = given.get(f"train.{key}") or spec["train"].get(key)
        assert not named or Path(named).is_file(), named
    resumed = given.get("train.resume_training_checkpoint_path")
    first = int(Path(resumed).name.split("_")[2]) + 1 if resumed else 0
    epochs = spec["train"]["num_epochs"]
    for epoch in range(first, epochs):
        step = steps * (epoch + 1)
        say("Eval metrics generated.", kpi={"val_loss": 1.0 / (epoch + 2)})
        say("Training loop in progress", epoch=epoch, step=step, max_epoch=epochs - 1, max_step=steps * epochs, eta="0:00:01")
        path = out / f"model_epoch_{epoch:03}_step_{step:05}.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{path.stem}/data.pkl", b"\x80\x02}q\x00.")
            archive.writestr(f"{path.stem}/version", f"{epoch}\n")
        latest = out / "changenet_model_classify_latest.pth"
        latest.unlink(missing_ok=True)
        latest.symlink_to(path.name)
        if die.exists():
            die.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)


def _infer(spec: dict[str, Any], given: dict[str, str], out: Path) -> None:
    assert Path(given["inference.checkpoint"]).is_file(), given
    frame = _rows(spec, "infer")
    frame["siamese_score"] = [_distance(*pair) for pair in image_pairs(spec, "infer")]
    frame.to_csv(out / "inference.csv", index=False)


def image_pairs(spec: dict[str, Any], split: str) -> list[tuple[str, str]]:
    """Test and golden image of each row (first light) by TAO's own rule: join images_dir, path and name, add the light."""
    data = spec["dataset"]["classify"]
    folder = data[f"{split}_dataset"]["images_dir"]
    tail = f"_{next(iter(data['input_map']))}{data['image_ext']}" if data.get("input_map") else data["image_ext"]
    return [
        tuple(os.path.join(folder, path, name) + tail for path in (test, golden))  # noqa: PTH118 - an absolute path wins
        for test, golden, name in _rows(spec, split)[["input_path", "golden_path", "object_name"]].itertuples(index=False)
    ]


def _distance(test: str, golden: str) -> float:
    import numpy as np

    return float(np.abs(_pixels(test) - _pixels(golden)).mean() / 255)


def _pixels(path: str) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((16, 16)), dtype=np.float32)


def _embed(given: dict[str, str]) -> None:
    import pandas as pd

    frame = pd.read_parquet(given["input_parquet"])
    frame.insert(1, "embedding", [_pixels(path).ravel().astype(float).tolist() for path in frame["filepath"]])
    frame.to_parquet(given["output_parquet"])

"""Every payload in every slot: refused, or shown only as bounded, quoted, printable text."""
# ruff: noqa: E501 - tables of attacks and commands are read line by line

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deft_aoi.contract import spec as specs
from deft_aoi.contract.changenet_csv import read_changenet_csv
from deft_aoi.contract.errors import DeftError
from deft_aoi.contract.text import has_hidden, quoted
from deft_aoi.engines import success
from deft_aoi.mining.defect_types import read_defect_spec
from deft_aoi.mining.pregen_scan import scan
from deft_aoi.record import log, state

from .payloads import PAYLOADS
from .planting import must_be_harmless
from .pregen import pregen
from .test_images import picture
from .test_paths_and_tables import row, table


def _label(folder: Path, payload: str) -> object:
    return read_changenet_csv(table(folder, [row(label=payload)]), what="training set")["label"].tolist()


def _object_name(folder: Path, payload: str) -> object:
    return read_changenet_csv(table(folder, [row(object_name=payload)]), what="training set")["object_name"].tolist()


def _input_path(folder: Path, payload: str) -> object:
    return read_changenet_csv(table(folder, [row(input_path=payload)]), what="training set")["input_path"].tolist()


def _boardname(folder: Path, payload: str) -> object:
    return read_changenet_csv(table(folder, [row(boardname=payload)]), what="training set")["boardname"].tolist()


def _stem(folder: Path, payload: str) -> object:
    workspace = pregen(folder, "good")
    for side in (workspace.pregen_ng, workspace.pregen_ok):
        try:
            picture().save(side / f"{payload}.png", "PNG")
        except (OSError, ValueError):  # the file system refuses it (NUL, a separator)
            return None
    return [pair.stem for pair in scan(workspace, ("L",), ".png").pairs]


def _defect_spec(folder: Path, payload: str) -> object:
    path = folder / "defect_spec.jsonl"
    path.write_text(
        json.dumps({"defect_type": payload, "stems": [payload]}) + "\n" + json.dumps({"defect_type": "x", payload: 1})
    )
    return read_defect_spec(path)


def _spec_value(folder: Path, payload: str) -> object:
    path = folder / "s.yaml"
    specs.dump_spec(
        {"dataset": {"classify": {"image_ext": payload, "input_map": {payload: 0}}}, "model": {"backbone": {"type": payload}}},
        path,
    )
    spec = specs.load_spec(path)
    return specs.layout(spec, folder)


def _raw_spec(folder: Path, payload: str) -> object:
    path = folder / "s.yaml"
    path.write_text(f"a: [{payload}\n", encoding="utf-8", errors="replace")
    return specs.load_spec(path)


def _job_output(folder: Path, payload: str) -> object:
    logged = folder / "train.log"
    logged.write_text(
        f"{payload}\nEpoch 1\n{payload}\nTraceback (most recent call last):\nRuntimeError: {payload}\n",
        encoding="utf-8",
        errors="replace",
    )
    line = {"date": "1/1/2026", "time": "0:0:0", "status": "FAILURE", "verbosity": "ERROR", "message": payload}
    (folder / "status.json").write_text(json.dumps(line) + "\n")
    return success.check("train", folder, exit_code=1, log_path=logged, launched_ns=0)


def _previous_run(folder: Path, payload: str) -> object:
    run = folder / "run_20200101_000000"
    run.mkdir(exist_ok=True)
    (run / "loop_log.jsonl").write_text(payload + "\n", encoding="utf-8", errors="replace")
    (run / "deft_state.json").write_text(json.dumps({"status": payload}))
    return log.read(run)


def _upstream_state(folder: Path, payload: str) -> object:
    (folder / "deft_state.json").write_text(json.dumps({"iterations": {"baseline": {"best_ckpt_path": payload}}, payload: 1}))
    state.read_imported_state(folder)
    return None


SLOTS = {
    f.__name__[1:]: f
    for f in (
        _label,
        _object_name,
        _input_path,
        _boardname,
        _stem,
        _defect_spec,
        _spec_value,
        _raw_spec,
        _job_output,
        _previous_run,
        _upstream_state,
    )
}
REFUSES_ALL = {"spec_value", "job_output", "previous_run"}


@pytest.mark.parametrize("slot", SLOTS)
def test_every_payload_is_refused_or_stays_data(tmp_path: Path, slot: str) -> None:
    refused = 0
    for number, payload in enumerate(PAYLOADS):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            kept = SLOTS[slot](folder, payload)
        except DeftError as error:
            refused += 1
            must_be_harmless(error.render())
            must_be_harmless(quoted(json.dumps(error.as_dict())))
            continue
        if slot in ("label", "object_name", "input_path", "stem") and kept:
            assert not any(has_hidden(str(value)) for value in kept)
    assert len(PAYLOADS) >= 60
    if slot in REFUSES_ALL:
        assert refused == len(PAYLOADS)
    elif slot in ("label", "object_name", "stem", "defect_spec"):
        assert refused > len(PAYLOADS) // 2

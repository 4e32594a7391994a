"""The exported graph decides as the engine does, or there is none."""

from __future__ import annotations

import json
import os
import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deft_aoi.contract.errors import Blocked, HardStop
from deft_aoi.contract.schema import read_checked
from deft_aoi.loop import export

DOCS = Path(__file__).resolve().parents[2] / "docs" / "station.md"


@pytest.fixture
def args(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Namespace:
    """The small workspace has fewer rows than a real one must show."""
    monkeypatch.setattr(export, "MIN_ROWS", 20)
    monkeypatch.setattr(export, "MAX_ROWS", 24)
    nothing = dict.fromkeys(("csv", "images", "test", "golden", "golden_by", "board_regex"))
    return Namespace(model=str(finished), output=str(tmp_path / "station"), map=[], **nothing)


def progress(_line: str) -> None:
    """Nobody watches."""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, args: Namespace) -> np.ndarray:
    """Scores of the engine; the job and the packages are played."""
    scores = np.linspace(0.0, 1.0, 24)
    threshold = json.loads((Path(args.model) / "best_model.json").read_text())["threshold"]
    scores[3] = threshold + export.SCORE_NOISE / 2
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _name: True)

    def job(_model, out: Path, _progress) -> Path:
        made = out / "export" / export.ONNX
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(b"graph")
        return made

    def engine(_model, boards, target: Path, _where, _progress):
        target.mkdir(parents=True)
        boards.frame.assign(siamese_score=[repr(float(s)) for s in scores]).to_csv(target / "inference.csv", index=False)
        return "job", target / "inference.csv", boards.frame

    monkeypatch.setattr(export, "_export", job)
    monkeypatch.setattr(export, "score_boards", engine)
    return scores


def test_decision_that_changes_outside_the_noise_leaves_no_graph(args, played, monkeypatch) -> None:
    other = played.copy()
    other[-1] = 0.0
    monkeypatch.setattr(export, "_onnx_scores", lambda *_: (other, "1.0"))
    with pytest.raises(HardStop, match="lost parity: 1 of 24 decisions changed"):
        export.export_model(args, progress)
    assert not list(Path(args.output).rglob("*.onnx"))
    assert not (Path(args.output) / export.RECORD).exists()


def test_decision_within_the_noise_is_counted_and_allowed(args, played, monkeypatch) -> None:
    other = played.copy()
    other[3] -= export.SCORE_NOISE
    monkeypatch.setattr(export, "_onnx_scores", lambda *_: (other, "1.0"))
    body = export.export_model(args, progress)
    assert body["parity"]["changed_within_noise"] == 1
    assert body["parity"]["largest_difference"] == pytest.approx(export.SCORE_NOISE)
    assert read_checked(Path(args.output) / export.RECORD, "export") == body


def test_too_few_rows_show_nothing(args, played, monkeypatch) -> None:
    monkeypatch.setattr(export, "MIN_ROWS", 500)
    with pytest.raises(HardStop, match="too few rows"):
        export.export_model(args, progress)


def test_missing_packages_are_named_before_anything_is_written(args, monkeypatch) -> None:
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(Blocked, match="onnxruntime is not installed"):
        export.export_model(args, progress)
    assert not Path(args.output).exists()


def test_graph_and_the_documented_station_give_the_engines_scores(args, monkeypatch) -> None:
    for name in export.NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed (extra export)")
    body = export.export_model(args, progress)
    assert body["parity"]["rows"] == 24
    assert body["parity"]["largest_difference"] <= export.SCORE_NOISE
    import onnx

    kept = {p.key: p.value for p in onnx.load(body["onnx"]["path"]).metadata_props}
    assert float(kept["threshold"]) == body["threshold"]
    assert kept["rule"] == "siamese_score > threshold: defect"
    monkeypatch.chdir(args.output)
    station: dict = {}
    exec(re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S).group(1), station)
    scored = pd.read_csv(Path(args.output) / "parity" / "inference" / "inference.csv").head(6)
    given = pd.read_csv(Path(args.output) / "parity" / "boards.csv", dtype=str, keep_default_na=False)
    root = Path(args.model).parents[1]
    lost = export._own_rows(Path(args.model) / "best_model.json").frame
    for row, engine in zip(lost.head(6).itertuples(), scored["siamese_score"], strict=True):
        files = [str(root / folder / f"{row.object_name}_SolderLight.jpg") for folder in (row.input_path, row.golden_path)]
        assert station["score"](*files) == pytest.approx(engine, abs=export.SCORE_NOISE)
        assert station["is_defect"](*files) == (engine > body["threshold"])
    assert len(given) == 24
    assert os.path.samefile(body["onnx"]["path"], Path(args.output) / "model.onnx")

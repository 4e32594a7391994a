"""Next week's run: last week's model is the baseline, and is replaced only by a better one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.files import sha256_file
from deft_aoi.contract.paths import Workspace
from deft_aoi.loop.champion import describe
from deft_aoi.loop.preflight import run_checks
from deft_aoi.loop.verify import verify_run
from deft_aoi.record import log
from deft_aoi.report import trend
from tests.built_once import built_once

from .conftest import NEVER, deft, only_run

WEEK = ("--kpi-target", NEVER, "--training-epochs", 1, "--max-iterations", 1)


@pytest.fixture(scope="module")
def second(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run after the finished one, in a workspace of its own: the run before is gone, only its hand-over is left."""

    def build(base: Path) -> None:
        shutil.copytree(finished.parents[1], base / "ws")
        kept = handed_over(finished, base / "kept")
        shutil.rmtree(base / "ws" / "results")
        said = deft(
            "run_loop",
            *("--workspace", base / "ws", "--continue-from", kept / "best_model.json", *WEEK, "--yes"),
            env={f"XDG_{name}_HOME": str(base / name) for name in ("STATE", "CACHE", "DATA")},
        )
        assert said.code == 0, said.out + said.err

    return only_run(built_once(tmp_path_factory, "second", build) / "ws")


def handed_over(run: Path, folder: Path) -> Path:
    """What a line keeps of a run: four files."""
    folder.mkdir()
    body = json.loads((run / "best_model.json").read_text())
    for path in (*(run / name for name in HANDED), Path(run / Path(body["checkpoint"]["path"]).relative_to(run))):
        shutil.copyfile(path, folder / path.name)
    return folder


HANDED = ("best_model.json", "best_model_inference_spec.yaml", "lineage.parquet")


def best(run: Path) -> dict:
    return json.loads((run / "best_model.json").read_text())


def test_champion_is_scored_first_and_what_was_trained_is_true_across_runs(finished: Path, second: Path) -> None:
    before, now = best(finished), best(second)
    trained = next(e for e in log.read(second) if (e["iter"], e["stage"]) == ("baseline", "train"))
    assert trained["data"]["best_val_sha256"] == before["checkpoint"]["sha256"]
    assert not [e for e in log.read(second) if e["iter"] == "baseline" and e["stage"] == "train" and e["status"] == "started"]
    assert now["champion"]["run"] == finished.name
    assert now["champion"]["far_fraction"] == before["far_fraction"], "the same rows, the same model"
    assert [h["run"] for h in now["history"]] == [finished.name, second.name]
    assert now["history"][0]["kpi_content"] == now["history"][1]["kpi_content"]
    assert now["history"][1]["outcome"] == ("champion stays" if now["champion"]["stays"] else "challenger handed over")
    assert (now["iteration"] == "baseline") == now["champion"]["stays"]
    assert now["lineage"][: len(before["lineage"])] == before["lineage"]
    assert verify_run(second).holds, verify_run(second).text()


def test_challenger_starts_from_the_champions_weights_on_its_rows_and_new_ones(finished: Path, second: Path) -> None:
    spec = yaml.safe_load((second / "run" / "specs" / "iter1-train.yaml").read_text())
    start = Path(spec["train"]["pretrained_model_path"])
    assert sha256_file(start) == best(finished)["checkpoint"]["sha256"]
    provenance = pd.read_csv(second / "iter1/dataset/train_combined_iter1_provenance.csv", dtype=str)
    old = pd.read_parquet(finished / "lineage.parquet")
    base = len(pd.read_csv(second.parents[1] / "train/base/training_set.csv"))
    assert (provenance["source"] == "base_train").sum() == base
    again = provenance[provenance["source"] == "previous_iter_train"]
    mined = old[(old["iteration"] != "baseline") & ~old["input_path"].str.startswith("results/")]
    assert set(again["content_id"]) == set(mined["content_id"]), "mined rows of the week before that are still in the workspace"
    assert set(again["provenance"]) <= {"real"}, "synthetic ones lay in the run that is gone; they may be mined again"
    now = pd.read_parquet(second / "lineage.parquet")
    assert set(old["content_id"]) <= set(now["content_id"])
    if not best(second)["champion"]["stays"]:
        assert set(provenance["content_id"]) <= set(now["content_id"])


def preflight(workspace: Path, champion: Path | None = None, **options: object) -> str:
    """What pre-flight stops with; empty when it passes."""
    given = {} if champion is None else {"continue_from": describe(str(champion))}
    _plan, _findings, error = run_checks(Workspace.at(workspace), {**given, **options})
    return "" if error is None else f"{error.exit_code}: {error.message}"


def test_part_that_the_champion_was_trained_on_stops_the_run(finished: Path, workspace: Path) -> None:
    """It is in this week's KPI set and in no training set any more: only the lineage knows it."""
    train, kpi = (
        pd.read_csv(workspace / p, dtype=str, keep_default_na=False)
        for p in ("train/base/training_set.csv", "kpi/testing_set.csv")
    )
    train.iloc[1:].to_csv(workspace / "train/base/training_set.csv", index=False)
    pd.concat([kpi, train.iloc[:1]]).to_csv(workspace / "kpi/testing_set.csv", index=False)
    assert preflight(workspace) == "", "without the champion nothing is wrong"
    assert preflight(workspace, finished).startswith("3: leakage: the model was trained on 1 parts of this workspace's KPI set")


def test_another_network_is_refused(finished: Path, workspace: Path) -> None:
    path = workspace / "specs/baseline_spec.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["dataset"]["classify"]["image_width"] = 48
    path.write_text(yaml.safe_dump(spec))
    said = preflight(workspace, finished)
    assert said == "3: the champion is another network than the spec's: dataset.classify.image_width differs"


def test_other_registration_is_refused(finished: Path, workspace: Path) -> None:
    assert "registered otherwise" in preflight(workspace, finished, registration="off")


@pytest.mark.parametrize(
    ("name", "said"), [("lineage.parquet", "lineage of the model is not the one"), ("best_model.json", "schema")]
)
def test_hand_over_that_was_changed_is_refused(finished: Path, workspace: Path, tmp_path: Path, name: str, said: str) -> None:
    kept = handed_over(finished, tmp_path / "kept")
    if name == "lineage.parquet":
        (kept / name).write_bytes((kept / name).read_bytes() + b"x")
    else:
        (kept / name).write_text((kept / name).read_text().replace('"threshold"', '"thresh"', 1))
        with pytest.raises(HardStop, match=said):
            describe(str(kept / "best_model.json"))
        return
    assert said in preflight(workspace, kept / "best_model.json")


def test_model_without_its_lineage_is_refused_with_the_remedy(finished: Path, workspace: Path, tmp_path: Path) -> None:
    kept = handed_over(finished, tmp_path / "kept")
    body = best(kept)
    del body["lineage_rows"]
    (kept / "best_model.json").write_text(json.dumps(body))
    with pytest.raises(HardStop, match="without its lineage") as caught:
        describe(str(kept / "best_model.json"))
    assert "prepare_inference_spec.py --results-dir R --output-dir DIR" in caught.value.hint


def test_report_and_trend_say_what_became_of_the_champion(finished: Path, second: Path) -> None:
    body, page = best(second), (second / "DEFT_Loop_Report.html").read_text()
    said = deft("compare_runs", second).out
    for run in (finished, second):
        assert run.name in said
        assert run.name in page
    assert "Week by week" in page
    assert body["history"][1]["outcome"] in said
    assert trend.sentence(body["champion"]) in log.load_state(second)["run"]["champion"]
    assert "Week by week" not in (finished / "DEFT_Loop_Report.html").read_text()
    stays = {**body["champion"], "stays": True}
    stays["refused"] = [{"iteration": "iter1", "reason": "refused: 1 defect(s) newly missed", "new_escapes": ["b7/R3"]}]
    assert trend.sentence(stays).endswith('stays; iteration 1 refused: 1 defect(s) newly missed ("b7/R3")')

"""A run that mines hard rows beside the neighbours: real scoring jobs, files, provenance, verification."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from PIL import Image, ImageChops

from deft_aoi.analysis.identity import image_paths
from deft_aoi.contract import spec as specs
from deft_aoi.contract.paths import Workspace
from deft_aoi.contract.splits import load_splits

from .conftest import FAST, NEVER, deft, only_run


def test_both_proposers_add_rows_that_are_counted_told_apart_and_verified(workspace: Path) -> None:
    said = deft(
        "run_loop",
        "--workspace",
        workspace,
        "--yes",
        *FAST,
        "--kpi-target",
        NEVER,
        "--registration",
        "6",
        "--mining",
        "both",
        "--hard-rows",
        "6",
        "--encoder",
        "difference",
    )
    assert said.code == 0, said.out + said.err
    run = only_run(workspace)
    folder = run / "iter1" / "mining_filter"
    hard, knn = (pd.read_csv(folder / f"{name}_summary.csv").iloc[0] for name in ("hard", "knn"))
    mined = pd.read_csv(folder / "mining_pool.csv", dtype=str, keep_default_na=False)
    assert hard["kept_count"] > 0
    assert mined["proposer"].value_counts().to_dict().get("hard") == hard["kept_count"]
    assert len(mined) == hard["kept_count"] + knn["kept_count"]
    assert (mined.loc[mined["proposer"] == "hard", "provenance"] == "real").all()
    assert hard["looked_at_count"] == hard["kept_count"] + hard["rejected_count"]
    provenance = pd.read_csv(run / "iter1" / "dataset" / "train_combined_iter1_provenance.csv", dtype=str, keep_default_na=False)
    assert set(provenance["source"]) == {"base_train", "mining_pool"}, "the source keeps its meaning"
    assert (provenance["proposer"] == "hard").sum() == hard["kept_count"]
    assert (provenance.loc[provenance["source"] == "base_train", "proposer"] == "").all()
    page = (run / "DEFT_Loop_Report.html").read_text(encoding="utf-8")
    table = page[page.index("What each proposer added") :].split("</table>")[0]
    numbers = [
        knn["kept_count"],
        hard["kept_defects"],
        hard["kept_count"] - hard["kept_defects"],
        hard["rejected_label_in_doubt"],
    ]
    assert re.findall(r"<td>(\d+)</td>", table)[:4] == [str(n) for n in numbers]
    assert ("left out because most neighbours" in page) == bool(hard["rejected_label_in_doubt"])
    assert knn["encoder"].startswith("difference:16"), "no weights were asked for"
    assert knn["similarity_threshold"] == 0.5
    checked = deft("verify_run", "--results-dir", run)
    assert checked.code == 0, checked.out + checked.err


def test_hard_rows_are_refused_where_goldens_lie_off_and_stay_there(workspace: Path) -> None:
    place = Workspace.at(workspace)
    spec = specs.load_spec(place.baseline_spec)
    train = load_splits(place, spec)["train"]
    for path in {p for column in image_paths(train.frame, train.layout)[len(train.layout.lights) :] for p in column}:
        with Image.open(path) as image:
            moved = ImageChops.offset(image.convert("RGB"), 4, 0)
        moved.save(path)
    raw = ("--workspace", workspace, "--registration", "off", "--mining")
    refused = deft("preflight", *raw, "hard")
    assert refused.code != 0
    assert "forgive displacement" in refused.out + refused.err
    both = deft("preflight", *raw, "both")
    assert "mining both becomes knn" in both.out, both.out + both.err

"""A pool that has nothing new ends the loop: with hand-over, report and the list of data to collect."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

from deft_aoi.record import log

from .conftest import FAST, NEVER, deft, only_run


def test_a_pool_without_a_new_row_ends_the_loop_as_exhausted(workspace: Path) -> None:
    """The pool holds copies of training rows, under other names, and there are no synthetic pairs."""
    with (workspace / "train" / "base" / "training_set.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))[:4]
    pool = workspace / "augmentation" / "mining_pool"
    shutil.rmtree(pool)
    shutil.rmtree(workspace / "augmentation" / "anomalygen")
    for i, row in enumerate(rows):
        for column, folder in (("input_path", "a"), ("golden_path", "g")):
            for source in sorted((workspace / "kpi" / "images" / row[column]).glob(f"{row['object_name']}_*")):
                target = pool / "images" / folder / source.name.replace(row["object_name"], f"copy{i}")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        row |= {"input_path": "images/a", "golden_path": "images/g", "object_name": f"copy{i}"}
    with (pool / "mining_pool.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    said = deft("run_loop", "--workspace", workspace, "--kpi-target", NEVER, *FAST, "--yes")
    assert said.code == 0, said.out + said.err
    run = only_run(workspace)
    events = log.read(run)
    stop = next(event for event in events if event["stage"] == "loop_stop")
    assert stop["data"]["reason"] == "pool_exhausted"
    mined = next(event for event in events if event["stage"] == "data_mining" and event["status"] == "ok")
    assert mined["data"]["rejected_by_reason"] == {"already_in_training": mined["data"]["candidates"]}
    assert not any(event["stage"] == "train" and event["iter"] == "iter1" for event in events)
    assert (run / "best_model.json").is_file()
    assert "DEFT" in (run / "DEFT_Loop_Report.html").read_text(encoding="utf-8")
    assert json.loads((run / "run" / "data_requests.json").read_text())["requests"]

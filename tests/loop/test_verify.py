"""A finished run broken in every way: ``verify_run.py`` names each file, and says what nothing vouches for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import RunPaths
from deft_aoi.loop import published
from deft_aoi.loop.verify import Verdict, verify_run
from deft_aoi.record import log, log_event, provenance, state

from .conftest import deft

CHAIN = ("loop_log.jsonl", "deft_state.json")
MANIFESTS = ("_MANIFEST.json", "_EVALUATE.json")
MACHINERY = re.compile(r"run/(reserve|run\.lock|driver\.(start|exit)|log\.(lock|index)|jobs/.*)|iter1_summary\.md")
"""What no digest is on record of; a summary is written for people, who may add to it."""


def files(run: Path) -> list[str]:
    """Every file of a run, not the chain itself."""
    found = [p.relative_to(run).as_posix() for p in sorted(run.rglob("*")) if p.is_symlink() or p.is_file()]
    return [name for name in found if name not in CHAIN]


def flip(path: Path) -> None:
    """Change one bit and keep size and times, as a careful hand would."""
    data, before = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def unnamed(verdict: Verdict, names: list[str]) -> list[str]:
    """Files that no finding names, by their own path or by their folder's and theirs below it."""
    said = [p.replace(": changed: ", "/").replace(": missing: ", "/").replace(": ", "/") for p in verdict.problems]
    folders = {"data_mining": "mining_filter", "rca": "rca_results", "routing": "routing_results"}
    folders |= {"holdout": "run/holdout", "unregistered": "run/unregistered"}
    for word, folder in folders.items():
        said = [re.sub(rf"(^|/){word}/", rf"\1{folder}/", s) for s in said]
    return [name for name in names if not any(name in s for s in said)]


def test_a_finished_run_holds_and_every_file_of_it_is_accounted_for(finished: Path) -> None:
    said = deft("verify_run", "--results-dir", finished)
    assert said.code == 0, said.out
    assert said.out.startswith("everything holds")
    assert len(said.out.splitlines()) <= 15
    verdict = verify_run(finished)
    machinery = [name for name in files(finished) if MACHINERY.fullmatch(name)]
    assert sum(verdict.files.values()) == len(files(finished)) + len(CHAIN)
    assert verdict.files["files vouched for by digest"] == len(files(finished)) - len(machinery)
    assert verdict.strangers == []
    assert verdict.checked["hold-outs recomputed"] == verdict.checked["reports"] == 1
    assert '"checkpoints_pruned":0' not in (finished / "loop_log.jsonl").read_text(), "no checkpoint was pruned"


def test_one_changed_bit_of_any_file_is_named(finished_copy: Path) -> None:
    names = [n for n in files(finished_copy) if not n.endswith(MANIFESTS)]
    names = [n for n in names if not (finished_copy / n).is_symlink() and (finished_copy / n).stat().st_size]
    for name in names:
        flip(finished_copy / name)
    missed = [n for n in unnamed(verify_run(finished_copy), names) if not MACHINERY.fullmatch(n)]
    assert missed == []


def test_any_missing_file_is_named(finished_copy: Path) -> None:
    names = [n for n in files(finished_copy) if not n.endswith(MANIFESTS)]
    for name in names:
        (finished_copy / name).unlink()
    missed = [n for n in unnamed(verify_run(finished_copy), names) if not MACHINERY.fullmatch(n)]
    assert missed == []


def test_a_file_changed_together_with_its_manifest_or_voucher_is_found_by_the_record(finished_copy: Path) -> None:
    forged = [p for p in sorted(finished_copy.rglob("*")) if p.name in MANIFESTS]
    assert len(forged) == 15
    for manifest in forged:
        body = json.loads(manifest.read_text())
        listed = body["files"]
        entries = listed if isinstance(listed, list) else [{"path": name} for name in listed]
        path = next(manifest.parent / e["path"] for e in entries if (manifest.parent / e["path"]).is_file())
        flip(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries[0]["sha256"] = digest
        if isinstance(listed, dict):
            listed[path.relative_to(manifest.parent).as_posix()] = digest
        manifest.write_text(json.dumps(body))
    verdict = verify_run(finished_copy)
    assert unnamed(verdict, [p.relative_to(finished_copy).as_posix() for p in forged]) == []


def test_what_somebody_added_is_named_and_only_in_a_published_folder_a_finding(finished_copy: Path) -> None:
    (finished_copy / "notes.txt").write_text("mine")
    (finished_copy / "iter1" / "train.stale").mkdir()
    (finished_copy / "iter1" / "train.stale" / "a.pth").write_bytes(b"a")
    verdict = verify_run(finished_copy)
    assert verdict.holds, verdict.problems
    assert verdict.strangers == ["iter1/train.stale", "notes.txt"]
    assert "no part of a run, not checked: iter1/train.stale, notes.txt" in verdict.text()
    added = ["iter1/train/more.pth", "baseline/inference/latest/kpi2.json", "synth_pool/images/x.jpg", "run/holdout/y"]
    for name in added:
        (finished_copy / name).write_bytes(b"more")
    found = verify_run(finished_copy).problems
    assert len(found) == len(added), found
    assert all(
        any(p.endswith(f"not in the manifest: {n.split('/', 2)[-1]}") for p in found) or n.startswith("synth") for n in added
    )


def test_a_chosen_checkpoint_may_not_be_missing_as_a_pruned_one_may(finished_copy: Path) -> None:
    kept = sorted((finished_copy / "iter1" / "train").glob("model_*.pth"))[-1]
    kept.unlink()
    assert any(f"iter1/train: missing: {kept.name}" in p for p in verify_run(finished_copy).problems)


def test_a_lost_plan_or_a_changed_input_is_a_finding_and_the_rest_is_still_checked(finished_copy: Path) -> None:
    (finished_copy / "run" / "plan.json").unlink()
    flip(finished_copy / "iter1" / "dataset" / "train_combined_iter1.csv")
    verdict = verify_run(finished_copy)
    assert any("run/plan.json is missing" in p for p in verdict.problems)
    assert any("iter1/dataset: changed: train_combined_iter1.csv" in p for p in verdict.problems)
    assert deft("verify_run", "--results-dir", finished_copy).code == 3


def test_a_changed_input_of_the_plan_is_named(finished_copy: Path) -> None:
    with (finished_copy.parents[1] / "train" / "base" / "validation_set.csv").open("a") as handle:
        handle.write("\n")
    problems = verify_run(finished_copy).problems
    assert len(problems) == 1
    assert "validation" in problems[0]


def test_a_record_written_anew_with_better_numbers_does_not_fit_its_files(finished_copy: Path) -> None:
    """Whoever forges the whole chain still has to forge what ``inference.csv`` says."""
    events = log.read(finished_copy)
    evaluated = next(e for e in events if (e["iter"], e["stage"], e["status"]) == ("iter1", "evaluate", "ok"))
    evaluated["data"]["state"]["far_fraction"] = 0.0
    prev, raw = log_event.GENESIS, b""
    for event in events:
        event |= {"prev": prev}
        event["crc"] = log_event.crc_of(event)
        text = log_event.encode(event)
        prev, raw = log_event.digest(text), raw + text
    shutil.rmtree(finished_copy / "run" / "jobs")
    (finished_copy / "loop_log.jsonl").write_bytes(raw)
    (finished_copy / "deft_state.json").write_bytes(state.snapshot_bytes(log_events := _parsed(raw)))
    assert len(log_events) == len(events)
    problems = verify_run(finished_copy).problems
    assert any(p.startswith("iter1: far_fraction on record is 0.0, computed ") for p in problems), problems


def _parsed(raw: bytes) -> list[dict]:
    return log.parse(raw)[0]


def test_an_event_logged_by_hand_vouches_for_nothing(finished_copy: Path) -> None:
    """A note that names files is refused; a further report by hand makes no changed file one that is on record."""
    spec = finished_copy / "run" / "specs" / "iter1-train.yaml"
    flip(spec)
    flip(finished_copy / "DEFT_Loop_Report.html")
    found = {f"run/specs/{spec.name}": hashlib.sha256(spec.read_bytes()).hexdigest()}
    page = hashlib.sha256((finished_copy / "DEFT_Loop_Report.html").read_bytes()).hexdigest()
    said_of_files = json.dumps({"files": found, "path": "DEFT_Loop_Report.html", "sha256": page})
    for stage, code in (("note", 2), ("report", 0)):
        said = deft(
            "log_stage",
            "--log-path",
            finished_copy / "loop_log.jsonl",
            "--iter-label",
            "run",
            "--stage",
            stage,
            "--status",
            "ok",
            "--summary",
            "all is well",
            "--data",
            said_of_files,
        )
        assert said.code == code, said.err
    problems = verify_run(finished_copy).problems
    assert [p.split(" is ")[0] for p in problems] == [f"run/specs/{spec.name}", "DEFT_Loop_Report.html"]


def test_a_stage_killed_while_it_wrote_a_file_anew_is_not_stopped_by_that_file(finished_copy: Path) -> None:
    """The hand-over writes the list of data to collect again, which the last analysis vouches for until it is done."""
    run, events = RunPaths(finished_copy), log.read(finished_copy)
    before = events[: next(i for i, e in enumerate(events) if e["stage"] == "handoff")]
    named = provenance.on_record(run, before)
    assert named["run/data_requests.json"].stage == "rca"
    (run.run / "data_requests.json").write_text("{}")
    assert published.single_problems(run, named, published.stages_in_progress(before)) == []
    found = published.single_problems(run, named, set())
    assert found == ["run/data_requests.json is not the one on record"]


def test_a_report_rendered_again_holds_and_a_finding_that_cites_a_wrong_number_does_not(finished_copy: Path) -> None:
    said = deft(
        "record_spot_check", "--results-dir", finished_copy, "--iteration", "iter1", "--picture", "1=edge_case", "--note", "glare"
    )
    assert said.code == 0, said.err
    assert deft("render_report", "--results-dir", finished_copy).code == 0
    verdict = verify_run(finished_copy)
    assert verdict.holds, verdict.problems
    assert verdict.files["files vouched for by digest"] == verify_run(finished_copy).files["files vouched for by digest"]
    flip(finished_copy / "run" / "spot_check.json")
    assert any("run/spot_check.json" in p for p in verify_run(finished_copy).problems)


def test_a_record_that_was_written_anew_as_a_whole_is_found_by_its_head(finished_copy: Path) -> None:
    events = log.read(finished_copy)
    before = verify_run(finished_copy).head
    assert before.startswith(f"{len(events)}-")
    log.append(finished_copy, iter_label="run", stage="note", status="ok", summary="a later note", data={"kind": "note"})
    grown = verify_run(finished_copy, before)
    assert grown.holds, grown.problems
    assert grown.head != before
    handed = json.loads((finished_copy / "best_model.json").read_text())["record_head"]
    assert verify_run(finished_copy, f"{handed['seq']}-{handed['digest']}").holds

    path, prev = finished_copy / "loop_log.jsonl", log_event.GENESIS
    raw = []
    for event in log.read(finished_copy):  # another time of the first event, and everything after it made to fit
        event |= {"ts": "2020-01-01T00:00:00Z"} if event["seq"] == 1 else {}
        event |= {"prev": prev}
        event |= {"crc": log_event.crc_of(event)}
        raw.append(log_event.encode(event))
        prev = log_event.digest(raw[-1])
    path.write_bytes(b"".join(raw))
    (finished_copy / "deft_state.json").write_bytes(state.snapshot_bytes(log.parse(b"".join(raw))[0]))
    assert verify_run(finished_copy).holds  # nothing in the folder tells
    assert any("written anew" in p for p in verify_run(finished_copy, before).problems)


def test_a_record_that_was_cut_off_is_found_by_its_head(finished_copy: Path) -> None:
    head = verify_run(finished_copy).head
    path = finished_copy / "loop_log.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    (finished_copy / "deft_state.json").unlink()
    assert any("cut off" in p for p in verify_run(finished_copy, head).problems)


@pytest.mark.parametrize("head", ["", "57", "0-" + "a" * 32, "57-" + "A" * 32, "57-" + "a" * 31, "57-" + "a" * 65, "-1-a"])
def test_what_is_no_head_is_said(finished: Path, head: str) -> None:
    with pytest.raises(UsageError, match="not a head"):
        verify_run(finished, head)

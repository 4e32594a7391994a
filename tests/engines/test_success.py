"""Evidence of success, on status files of real TAO runs (7.0.1 on CPU, 7.3.0 on a GPU) and on recorded texts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from deft_aoi.contract.errors import JobFailed
from deft_aoi.engines import known_errors, success
from deft_aoi.engines.success import check

TRAIN = "tao_runs_730/run2/fan_base/train"
INFER = "tao_runs_730/run2/fan_base/inference"
BEFORE = 10**9
"""A launch, in nanoseconds, that every file made here is younger than."""


@pytest.fixture
def checkpoint(tmp_path: Path):
    """A real PyTorch archive, and where to put copies of it."""
    torch = pytest.importorskip("torch")
    source = tmp_path / "weights.bin"
    torch.save({"state_dict": {"w": torch.arange(2000.0)}, "epoch": 0}, source)

    def place(folder: Path, name: str) -> Path:
        return Path(shutil.copyfile(source, folder / name))

    return place


@pytest.fixture
def finished(tao_fixtures: Path, tmp_path: Path):
    """Copy one real results folder as if the job had just written it."""

    def copy(which: str) -> tuple[Path, Path, int]:
        launched = BEFORE
        out = tmp_path / "out"
        out.mkdir()
        for path in (tao_fixtures / which).iterdir():
            if path.is_file():
                shutil.copyfile(path, out / path.name)
        log = tmp_path / "job.log"
        log.write_text("")
        return out, log, launched

    return copy


def failed(*args, **kwargs) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        check(*args, **kwargs)
    return caught.value


def known(error: JobFailed) -> str:
    """The id that the message names."""
    return error.message.split("[")[1].split("]")[0]


def test_a_real_training_with_a_new_checkpoint_is_a_success(finished, checkpoint):
    out, log, launched = finished(TRAIN)
    checkpoint(out, "model_epoch_011_step_00144.pth")
    evidence = check("train", out, exit_code=0, log_path=log, launched_ns=launched)
    assert evidence.sentence == "Train finished successfully."
    assert [o.path for o in evidence.outputs] == ["model_epoch_011_step_00144.pth"]
    assert evidence.metrics["train_loss"] == pytest.approx(0.04405313)
    assert "val_far" in evidence.metrics


def test_success_without_a_new_checkpoint_is_zero_steps(finished):
    out, log, launched = finished(TRAIN)
    assert known(failed("train", out, exit_code=0, log_path=log, launched_ns=launched)) == "zero-steps"


def test_a_checkpoint_older_than_the_launch_does_not_count(finished, checkpoint):
    out, log, launched = finished(TRAIN)
    old = checkpoint(out, "model_epoch_011_step_00144.pth")
    os.utime(old, ns=(launched - 1, launched - 1))
    assert known(failed("train", out, exit_code=0, log_path=log, launched_ns=launched)) == "zero-steps"


def test_the_checkpoint_that_tao_dumps_when_it_dies_does_not_count(finished, checkpoint):
    out, log, launched = finished(TRAIN)
    checkpoint(out, "model_epoch_000_step_00000.pth")
    (out / "changenet_model_classify_latest.pth").symlink_to("model_epoch_000_step_00000.pth")
    assert known(failed("train", out, exit_code=0, log_path=log, launched_ns=launched)) == "zero-steps"


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_checkpoint_does_not_count(finished, checkpoint, keep):
    out, log, launched = finished(TRAIN)
    path = checkpoint(out, "model_epoch_011_step_00144.pth")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert known(failed("train", out, exit_code=0, log_path=log, launched_ns=launched)) == "zero-steps"


def test_a_training_that_was_cut_short_is_not_a_success(finished, checkpoint):
    out, log, launched = finished("tao_runs_730/run1/fan_base/train")
    checkpoint(out, "model_epoch_011_step_00144.pth")
    error = failed("train", out, exit_code=0, log_path=log, launched_ns=launched)
    assert known(error) == "no-success-sentence"
    assert error.exit_code == 7


def test_a_status_file_that_speaks_of_an_earlier_job_does_not_count(finished, checkpoint):
    out, log, _ = finished(TRAIN)
    launched = (out / "status.json").stat().st_mtime_ns + 1
    made = out / "model_epoch_011_step_00144.pth"
    checkpoint(out, made.name)
    os.utime(made, ns=(launched + 1, launched + 1))
    assert known(failed("train", out, exit_code=0, log_path=log, launched_ns=launched)) == "no-success-sentence"


def test_only_the_last_start_in_an_appended_status_file_counts(finished, checkpoint, tao_fixtures):
    out, log, launched = finished(TRAIN)
    with (out / "status.json").open("ab") as handle:  # the next job began and died without a FAILURE line
        handle.write((tao_fixtures / "tao_runs_730/run1/fan_base/train/status.json").read_bytes())
    checkpoint(out, "model_epoch_011_step_00144.pth")
    assert known(failed("train", out, exit_code=0, log_path=log, launched_ns=launched)) == "no-success-sentence"


def test_a_real_failure_line_is_named(finished):
    out, log, launched = finished("tao_runs_730/run1/fan_base/inference")
    for exit_code in (0, 1):
        error = failed("inference", out, exit_code=exit_code, log_path=log, launched_ns=launched)
        assert known(error) == "missing-checkpoint"
        assert "[missing-checkpoint]" in error.message


@pytest.mark.parametrize(
    ("which", "rows"), [(INFER, 580), ("tao_runs/learnable/results/inference", 7), ("tao_runs/euclidean/results/inference", 7)]
)
def test_real_inferences_are_a_success(finished, which, rows):
    out, log, launched = finished(which)
    evidence = check("inference", out, exit_code=0, log_path=log, launched_ns=launched, expected_rows=rows)
    assert (evidence.rows, evidence.warnings) == (rows, ())


def test_an_inference_with_another_number_of_rows_fails(finished):
    out, log, launched = finished(INFER)
    error = failed("inference", out, exit_code=0, log_path=log, launched_ns=launched, expected_rows=579)
    assert known(error) == "bad-output"


@pytest.mark.parametrize("score", ["nan", "inf", "", "0.5,0.5"])
def test_a_score_that_is_not_a_finite_number_fails(finished, score):
    out, log, launched = finished("tao_runs/learnable/results/inference")
    lines = (out / "inference.csv").read_text().splitlines()
    lines[3] = f"{lines[3].rpartition(',')[0]},{score}"
    (out / "inference.csv").write_text("\n".join(lines) + "\n")
    assert known(failed("inference", out, exit_code=0, log_path=log, launched_ns=launched)) == "bad-output"


def test_equal_scores_warn_of_class_collapse(finished):
    out, log, launched = finished("tao_runs/learnable/results/inference")
    lines = (out / "inference.csv").read_text().splitlines()
    (out / "inference.csv").write_text("\n".join([lines[0], *(f"{x.rpartition(',')[0]},0.5" for x in lines[1:])]) + "\n")
    evidence = check("inference", out, exit_code=0, log_path=log, launched_ns=launched)
    assert [w.id for w in evidence.warnings] == ["class-collapse"]


def test_a_missing_inference_csv_is_not_a_success(finished):
    out, log, launched = finished(INFER)
    (out / "inference.csv").unlink()
    assert known(failed("inference", out, exit_code=0, log_path=log, launched_ns=launched)) == "stale-output"


def test_embeddings_are_counted_in_the_parquet_file(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path, launched = tmp_path / "out.parquet", BEFORE
    pq.write_table(pa.table({"filepath": ["a", "b"], "embedding": [[0.0, 1.0], [1.0, 0.0]]}), path)
    assert check("embedding", path, exit_code=0, log_path=tmp_path / "l", launched_ns=launched, expected_rows=2).rows == 2
    assert (
        known(failed("embedding", path, exit_code=0, log_path=tmp_path / "l", launched_ns=launched, expected_rows=3))
        == "bad-output"
    )
    path.write_bytes(path.read_bytes()[:-20])
    assert known(failed("embedding", path, exit_code=0, log_path=tmp_path / "l", launched_ns=launched)) == "bad-output"


# (text, id): the messages as TAO, PyTorch and the kernel write them.
TEXTS = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.53 GiB.", "gpu-out-of-memory"),
    (
        "RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader's workers "
        "are out of shared memory.",
        "shared-memory",
    ),
    ("OSError: [Errno 28] No space left on device", "disk-full"),
    ("ValueError: Dataset size (7) is smaller than the total batch size (16).", "rows-below-batch"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/ws/aug/backbone/c_radio.pth'", "missing-backbone"),
    ("ValueError: You shouldn't freeze a model without specifying pretrained_backbone_path", "frozen-backbone"),
    ("difference_module='learnable' requires train.classify.loss='ce', got 'contrastive'", "loss-difference-mismatch"),
    (
        "RuntimeError: Error(s) in loading state_dict: size mismatch for model.decoder.linear_c1.proj.weight: copying a param",
        "size-mismatch",
    ),
    ("KeyError: 'radio_model.blocks.0'", "size-mismatch"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/r/train/changenet_classify_latest.pth'", "missing-checkpoint"),
    ("FileNotFoundError: Image file wasn't found at /ws/kpi/images/test/C1_SolderLight.jpg", "missing-image"),
    ("FileNotFoundError: No inference csv file was found at /ws/x.csv", "missing-csv"),
    ("RuntimeError: invalid multinomial distribution (sum of probabilities <= 0)", "no-pass-rows"),
    ("ZeroDivisionError: division by zero", "no-defect-rows"),
    ("KeyError: 'label'", "missing-column"),
    ("omegaconf.errors.ConfigKeyError: Key 'checkpointer' not in 'TrainConfig'", "unknown-spec-key"),
    ("omegaconf.errors.ValidationError: Value 'x' of type 'str' could not be converted to Integer", "spec-type"),
    ("ERROR: The indicated experiment spec file `/x.yaml` doesn't exist!", "spec-missing"),
    ("AssertionError: Checkpoint interval 200 > Number of epochs 20.Please set experiment_config", "checkpoint-interval"),
    ("TypeError: join() argument must be str, bytes, or os.PathLike object, not 'float'", "missing-golden-path"),
    ("NotImplementedError: Bacbkbone name [c_radio_v4] is not supported", "unsupported-backbone"),
    ("ImportError: /usr/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found", "deformable-attention-library"),
    ("lightning_fabric.utilities.exceptions.MisconfigurationException: No supported gpu backend found!", "gpu-missing"),
    ("RuntimeError: CUDA error: an illegal memory access was encountered", "gpu-fault"),
    ("KeyError: 'getpwuid(): uid not found: 1234'", "user-id"),
    ("PermissionError: [Errno 13] Permission denied: '/results'", "permission"),
    ("RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.", "host-memory"),
    ("ModuleNotFoundError: No module named 'eff'", "module-missing"),
    ("huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder", "offline"),
    ("Execution status: FAIL", "launcher-fail"),
]


@pytest.mark.parametrize(("text", "error_id"), TEXTS)
def test_recorded_texts_map_to_their_known_error(tmp_path, text, error_id):
    log = tmp_path / "job.log"
    log.write_text(f'Traceback (most recent call last):\n  File "x.py", line 1\n{text}\nExecution status: FAIL\n')
    error = failed("inference", tmp_path, exit_code=1, log_path=log, launched_ns=0)
    assert known(error) == error_id
    assert error.hint
    assert text not in error.render()


@pytest.mark.parametrize("in_status_file", [True, False])
def test_an_unknown_failure_is_shown_in_the_job_s_own_words(tmp_path, in_status_file):
    own = "Parameter validation error: the crop is larger than the image"
    log = tmp_path / "job.log"
    log.write_text(f"ERROR: {own}\nExecution status: FAIL\n")
    if in_status_file:
        starts = {"status": "STARTED", "message": "Starting Visual ChangeNet train."}
        lines = [starts, {"status": "FAILURE", "message": own}]
        (tmp_path / "status.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    error = failed("train", tmp_path, exit_code=1, log_path=log, launched_ns=0)
    assert own in error.message
    assert "TAO" not in error.message


def test_every_known_error_has_a_recorded_text():
    not_by_text = {"grid-index"} | {e.id for e in known_errors.BY_ID.values() if not e.pattern}
    assert {e.id for e in known_errors.KNOWN_ERRORS} - not_by_text == {known for _, known in TEXTS}


def test_a_healthy_log_matches_nothing(tao_fixtures):
    for which in (TRAIN, INFER, "tao_runs/learnable/results/train", "tao_runs_730/run1/radio_base/train"):
        messages = [str(line.get("message")) for line in success.read_status(tao_fixtures / which / "status.json")]
        assert len(messages) > 5
        assert known_errors.match(messages) is None


def test_killed_and_timed_out_jobs_are_named(tmp_path):
    kill = failed("train", tmp_path, exit_code=137, log_path=tmp_path / "none", launched_ns=0)
    limit = failed("train", tmp_path, exit_code=143, log_path=tmp_path / "none", launched_ns=0, reason="time limit")
    assert (known(kill), known(limit)) == ("killed", "time-limit")


def test_validation_losses_belong_to_the_epochs_in_the_checkpoint_names(tao_fixtures):
    losses = success.validation_losses(tao_fixtures / "tao_runs/learnable/results/train/status.json")
    assert losses == {0: pytest.approx(0.7131062746), 1: pytest.approx(0.7086471319)}
    every_fourth = success.validation_losses(tao_fixtures / "tao_runs_730/run2/radio_full/train/status.json")
    assert list(every_fourth) == [3]


def test_progress_is_one_line_with_the_time_left(tao_fixtures):
    line = success.progress(tao_fixtures / "tao_runs_730/run2/radio_full/train")
    assert line.startswith("epoch 7 of 8, ")
    assert "0:00:33" in line


def test_running_epoch_is_that_of_the_attempt_at_work(tmp_path):
    line = '{{"message": "Training loop in progress", "epoch": {}, "max_epoch": 9, "eta": "0:01:00"}}\n'
    for label, epoch in (("baseline", 8), ("iter1", 2)):
        folder = tmp_path / label / ("train" if label == "baseline" else "train.tmp-1")
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(line.format(epoch))
    assert success.running_epoch(tmp_path).startswith("epoch 3 of 10, ")
    (tmp_path / "iter1" / "train.tmp-1").rename(tmp_path / "iter1" / "train")
    assert success.running_epoch(tmp_path) == ""

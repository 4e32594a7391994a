"""Job requests and the files that jobs leave beside their records."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deft_aoi.contract import schema, spec
from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.platforms import base
from deft_aoi.platforms.base import JobRequest
from deft_aoi.platforms.redact import LineRedactor, redact

GOOD = {"name": "deft-r-iter1-train", "argv": ("true",), "cwd": "/tmp", "log_path": "/tmp/l"}


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "Deft"},
        {"name": "deft_1"},
        {"name": "-x"},
        {"name": "x" * 64},
        {"name": "a/b"},
        {"name": ""},
        {"argv": ()},
        {"argv": ("a\0",)},
        {"cwd": "relative"},
        {"log_path": "l"},
        {"read_only": (Path("x"),)},
        {"env": {"A B": "1"}},
        {"secret_names": ("A=B",)},
        {"gpus": ("0; rm",)},
        {"image_digest": "sha256:1"},
        {"nodes": 0},
        {"time_limit_sec": 0},
        {"cwd": "/a\nb"},
    ],
)
def test_a_request_that_no_platform_could_run_safely_is_refused(bad):
    with pytest.raises(HardStop):
        JobRequest(**{**GOOD, **bad})


def test_what_a_local_job_leaves_behind_is_valid_by_schema(tmp_path):
    local = base.get_platform("local")
    local.submit(
        JobRequest(**{**GOOD, "argv": (sys.executable, "-c", "pass"), "cwd": str(tmp_path), "log_path": str(tmp_path / "l")}),
        tmp_path / "jobs",
    )
    base.wait(local, GOOD["name"], tmp_path / "jobs", timeout_sec=20)
    found = {p.name.removeprefix(f"{GOOD['name']}."): json.loads(p.read_text()) for p in (tmp_path / "jobs").glob("*.json")}
    assert set(found) == {"job.json", "run.json", "exit.json"}
    schema.validate(found["job.json"], "job")
    schema.validate(found["run.json"], "job_run")
    schema.validate(found["exit.json"], "job_exit")


def test_the_shipped_versions_file_is_valid_by_schema():
    path = Path(__file__).resolve().parents[2] / "specs" / "versions.yaml"
    versions = spec.load_spec(path)
    schema.validate(versions, "versions")
    assert versions["images"]["tao_toolkit"]["pyt"].endswith(f":{versions['tao_version']}-pyt")
    with pytest.raises(HardStop):
        schema.validate({**versions, "images": "latest"}, "versions")


@pytest.mark.parametrize("name", base.PLATFORMS)
def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(UsageError, match="no option"):
        base.get_platform(name, {"privileged": "yes"})


def test_an_unknown_platform_is_refused():
    with pytest.raises(UsageError, match="no platform"):
        base.get_platform("brev")


def test_a_damaged_record_is_a_hard_stop(tmp_path):
    base.write_record(JobRequest(**GOOD), tmp_path, "local")
    base.record_path(GOOD["name"], tmp_path).write_text("{")
    with pytest.raises(HardStop, match="damaged"):
        base.read_record(GOOD["name"], tmp_path)


def test_secrets_and_token_shapes_are_masked_and_text_is_kept():
    tokens = b" ".join([b"hf_" + b"A" * 24, b"nvapi-" + b"b" * 30, b"AKIA" + b"C" * 16])
    shown = redact(b"a s3cr3tvalue " + tokens + b" https://u:pw@host/x", ["s3cr3tvalue"])
    assert shown == b"a [redacted] [redacted] [redacted] [redacted] https://[redacted]@host/x"
    assert redact(b"loss 0.5 on", ["on", ""]) == b"loss 0.5 on"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_secret_cut_by_reads_is_still_masked(size):
    text, redactor = b"x\ntoken s3cr3tvalue here\r\nlast s3cr3tvalue", LineRedactor(["s3cr3tvalue"])
    out = b"".join(redactor.feed(text[i : i + size]) for i in range(0, len(text), size)) + redactor.close()
    assert out == b"x\ntoken [redacted] here\r\nlast [redacted]"

"""The batch script as text: quoting, GPUs, Pyxis, several nodes; it is executed for real by the integration test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deft_aoi.contract.errors import HardStop
from deft_aoi.platforms.base import JobRequest
from deft_aoi.platforms.slurm_script import render


def request(**more) -> JobRequest:
    values = {
        "name": "deft-r1-iter1-train",
        "argv": ("visual_changenet", "train", "-e", "/ws/spec.yaml"),
        "cwd": "/ws/out",
        "log_path": "/ws/out/train.log",
        "read_only": (Path("/ws"),),
        "writable": (Path("/ws/out"),),
    }
    return JobRequest(**{**values, **more})


def lines(**more) -> list[str]:
    options = more.pop("options", {})
    return render(request(**more), options, Path("/ws/jobs")).splitlines()


def test_the_script_is_valid_bash(tmp_path):
    path = tmp_path / "x.sbatch"
    path.write_text(render(request(nodes=2, gpus=4, image="nvcr.io/nvidia/tao:1"), {"partition": "gpu"}, tmp_path))
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_values_never_reach_the_shell_unquoted(tmp_path):
    marker = tmp_path / "pwned"
    text = render(
        request(
            cwd=str(tmp_path),
            argv=("echo", f"$(touch {marker})", "`id`", "a'b"),
            env={"X": f"$(touch {marker})"},
            log_path=str(tmp_path / "l"),
        ),
        {},
        tmp_path,
    )
    script = tmp_path / "x.sh"
    script.write_text(text)
    environment = {"SLURM_JOB_ID": "7", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == f"$(touch {marker}) `id` a'b\n"
    assert not marker.exists()
    assert (tmp_path / "deft-r1-iter1-train.exit").read_text() == "0\n"


def test_a_second_job_of_the_same_name_runs_nothing_and_a_requeued_one_runs_again(tmp_path):
    script = tmp_path / "x.sh"
    script.write_text(
        render(request(cwd=str(tmp_path), argv=("sh", "-c", "echo x >> ran; exit 3"), log_path=str(tmp_path / "l")), {}, tmp_path)
    )
    codes = [
        subprocess.run(["bash", str(script)], env={"SLURM_JOB_ID": job, "PATH": "/usr/bin:/bin"}, check=False).returncode
        for job in ("7", "8", "7")
    ]
    assert codes == [3, 0, 3]
    assert (tmp_path / "ran").read_text() == "x\nx\n"
    assert (tmp_path / "deft-r1-iter1-train.exit").read_text() == "3\n"


def test_resources_are_asked_for():
    options = {"partition": "a100", "account": "pcb", "cpus": "16", "mem_gib": "64"}
    text = lines(gpus=("0", "1"), time_limit_sec=3601, options=options)
    for wanted in ("gres=gpu:2", "time=61", "partition=a100", "account=pcb", "cpus-per-task=16", "mem=64G", "requeue"):
        assert f"#SBATCH --{wanted}" in text


def test_pyxis_gets_the_image_and_the_mounts_with_the_inputs_read_only():
    run = next(x for x in lines(image="nvcr.io/nvidia/tao/tao-toolkit:7.1.0-pyt", gpus=1) if x.startswith("srun"))
    assert "nvcr.io#nvidia/tao/tao-toolkit:7.1.0-pyt" in run
    assert "--container-mounts=/ws:/ws:ro,/ws/out:/ws/out:rw" in run
    assert "--no-container-mount-home" in run
    pre = next(x for x in lines(image="a.b/c:1", options={"container_image": "/images/tao.sqsh"}) if x.startswith("srun"))
    assert "--container-image=/images/tao.sqsh" in pre


def test_several_nodes_get_tao_s_variables():
    text = "\n".join(lines(nodes=3, gpus=8))
    assert "WORLD_SIZE=3 NUM_GPU_PER_NODE=8" in text
    assert "MASTER_ADDR=$(scontrol show hostnames" in text
    assert 'NODE_RANK="$SLURM_NODEID"' in text
    assert "#SBATCH --nodes=3" in text


@pytest.mark.parametrize("options", [{"partition": "a b"}, {"account": "x\n#SBATCH --uid=0"}, {"cpus": "0"}, {"mem_gib": "1G"}])
def test_options_that_would_break_out_of_their_line_are_refused(options):
    with pytest.raises(HardStop):
        lines(options=options)


@pytest.mark.parametrize("path", ["/ws/a b", "/ws/%j", "/ws/a,b", "/ws/a:b"])
def test_paths_that_a_directive_cannot_carry_are_refused(path):
    with pytest.raises(HardStop):
        lines(log_path=path)

"""The batch script of one SLURM job, as text. Every value is quoted; nothing of a request is ever expanded by the shell."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import quoted
from deft_aoi.platforms.base import JobRequest

# partition, account, qos, constraint: as sbatch takes them. cpus, mem_gib: a node's. gres: the name of the cluster's GPUs.
# setup: a file that the job sources first (modules). container_image: a .sqsh file that replaces the registry reference.
OPTIONS_IN_SCRIPT = ("partition", "account", "qos", "constraint", "cpus", "mem_gib", "gres", "setup", "container_image")

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:&|+-]{0,127}")
_SCRIPTS = Path(__file__).resolve().parents[2]
_MASTER_PORT = 29500  # 1024 to 65535, as TAO checks


def render(request: JobRequest, options: Mapping[str, str], record_dir: Path) -> str:
    """Write the script.

    Args:
        request: the job.
        options: the platform's options.
        record_dir: folder of the claim and the exit code, shared with the compute nodes.

    Raises:
        HardStop: an option or a path that ``#SBATCH`` lines cannot carry.
    """
    claim, code = record_dir / f"{request.name}.claim", record_dir / f"{request.name}.exit"
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {text}" for text in _directives(request, options)),
        "set -u",
        "umask 022",
        f"claim={shlex.quote(str(claim))}",
        f"exit_file={shlex.quote(str(code))}",
    ]
    lines += [
        "# One name, one training: a second submission of this name finds the claim and goes away; a requeued job keeps it.",
        '( set -o noclobber; echo "$SLURM_JOB_ID" > "$claim" ) 2>/dev/null || [ "$(cat "$claim")" = "$SLURM_JOB_ID" ] || exit 0',
        "# What ended well stays ended: SLURM may run a job again whose host failed after its last line.",
        '[ "$(cat "$exit_file" 2>/dev/null)" = 0 ] && exit 0',
        'rm -f "$exit_file"',
        f"cd {shlex.quote(str(request.cwd))} || exit 1",
    ]
    if options.get("setup"):
        lines.append(f". {shlex.quote(options['setup'])} || exit 1")
    lines += [f"export {key}={shlex.quote(value)}" for key, value in _environment(request).items()]
    if request.nodes > 1:
        lines += [
            'MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            f"export MASTER_ADDR MASTER_PORT={_MASTER_PORT} WORLD_SIZE={request.nodes} NUM_GPU_PER_NODE={request.gpu_count}",
        ]
    lines += [
        f"{_launcher(request, options)} {shlex.join(request.argv)}",
        "code=$?",
        'echo "$code" > "$exit_file.part" && mv -f "$exit_file.part" "$exit_file"',
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def _directives(request: JobRequest, options: Mapping[str, str]) -> list[str]:
    found = [
        f"--job-name={request.name}",
        f"--nodes={request.nodes}",
        "--ntasks-per-node=1",
        "--requeue",
        "--open-mode=append",
        f"--output={_plain_path(request.log_path)}",
        f"--chdir={_plain_path(request.cwd)}",
    ]
    if request.gpu_count:
        found.append(f"--gres={_word(options.get('gres', 'gpu'), 'gres')}:{request.gpu_count}")
    if request.time_limit_sec:
        found.append(f"--time={-(-request.time_limit_sec // 60)}")
    for name in ("partition", "account", "qos", "constraint"):
        if options.get(name):
            found.append(f"--{name}={_word(options[name], name)}")
    if options.get("cpus"):
        found.append(f"--cpus-per-task={_number(options['cpus'], 'cpus')}")
    if options.get("mem_gib"):
        found.append(f"--mem={_number(options['mem_gib'], 'mem_gib')}G")
    return found


def _environment(request: JobRequest) -> dict[str, str]:
    extra = dict(request.env)
    if request.image:
        return {"HOME": "/tmp", "USER": "deft", "LOGNAME": "deft"} | extra  # nosec B108 - the container's own /tmp
    first = [str(Path(request.python).parent)] if request.python else []
    own = {
        "PATH": ":".join([*first, str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PYTHONPATH": str(_SCRIPTS),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if request.gpu_count == 0:
        own["CUDA_VISIBLE_DEVICES"] = ""
    return own | extra


def _launcher(request: JobRequest, options: Mapping[str, str]) -> str:
    if not request.image and request.nodes == 1:
        return ""
    words = ["srun", "--kill-on-bad-exit=1", "--export=ALL"]  # what the script exported, not what sbatch was given
    if request.image:
        wanted = {str(p): "ro" for p in request.read_only} | {str(p): "rw" for p in request.writable}
        mounts = [f"{_plain_path(p)}:{_plain_path(p)}:{mode}" for p, mode in sorted(wanted.items(), key=lambda i: len(i[0]))]
        image = options.get("container_image") or _registry_spelling(request.image)
        words += [
            f"--container-image={image}",
            f"--container-mounts={','.join(mounts)}",
            "--no-container-mount-home",
            f"--container-workdir={request.cwd}",
        ]
    if request.nodes > 1:
        # Each node's rank is known only to its own task.
        words += ["bash", "-c", 'NODE_RANK="$SLURM_NODEID" exec "$@"', "node"]
    return shlex.join(words)


def _registry_spelling(reference: str) -> str:
    registry, _, rest = reference.partition("/")
    return f"{registry}#{rest}" if "." in registry and rest else reference


def _word(text: str, what: str) -> str:
    if not _WORD.fullmatch(text):
        raise HardStop(f"the slurm option {what} is malformed", expected="one word", found=quoted(text))
    return text


def _number(text: str, what: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise HardStop(f"the slurm option {what} is malformed", expected="a positive number", found=quoted(text))
    return int(text)


def _plain_path(path: str | Path) -> str:
    text = str(path)
    if any(c.isspace() or c in "%,:\"'\\" for c in text):
        raise HardStop(
            "a path has a character that an #SBATCH line cannot carry",
            expected="no space, comma, colon, % or quote",
            found=quoted(text, 200),
        )
    return text

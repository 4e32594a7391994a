"""What runs: ``tao`` (NVIDIA's commands) and ``embedded`` (our small implementation of the same commands).

The argument list is the same everywhere::

    visual_changenet train|evaluate|inference|export -e SPEC.yaml [hydra.key=value ...]
    embedding image_embeddings -e SPEC.yaml input_parquet=… output_parquet=…

:func:`command` says how the engine is reached on a platform, :mod:`.success` decides from evidence whether it did its
work, :mod:`.tao_schema` checks a spec before anything is launched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deft_aoi.contract.errors import HardStop
from deft_aoi.contract.text import quoted

ENGINES = ("tao", "embedded")
SUBTASKS = {
    "visual_changenet": ("train", "evaluate", "inference", "export"),
    "embedding": ("image_embeddings",),
}
# Modules behind TAO's console commands, for a Python environment with the wheels but without its bin folder on PATH.
_TAO_MODULES = {
    "visual_changenet": "nvidia_tao_pytorch.cv.visual_changenet.entrypoint.visual_changenet",
    "embedding": "nvidia_tao_ds.mining.embedding.entrypoint.embedding",
}
# TAO's launcher joins its command into one string and splits it again: none of these survive.
_BREAKS_LAUNCHER = frozenset(" \t\n\r'\"\\#")


def command(
    engine: str,
    tool: str,
    subtask: str,
    spec_path: str | Path,
    overrides: Sequence[str] = (),
    python: str | None = None,
    *,
    container: bool = False,
) -> tuple[str, ...]:
    """The argument list of a job.

    Args:
        engine: ``tao`` or ``embedded``.
        tool: ``visual_changenet`` or ``embedding``.
        subtask: the tool's subtask.
        spec_path: absolute path of a derived spec (a bare name would be ignored in silence by TAO's launcher).
        overrides: Hydra overrides ``key=value``.
        python: interpreter of the engine's environment; ``None`` means this one for ``embedded`` and whatever
            ``PATH`` finds for ``tao``.
        container: the image holds the engine under TAO's command names.

    Raises:
        HardStop: unknown engine, tool or subtask, a relative path, or an argument that TAO's launcher would split.
    """
    if engine not in ENGINES:
        raise HardStop(f"there is no engine {quoted(engine)}", expected=" | ".join(ENGINES))
    if subtask not in SUBTASKS.get(tool, ()):
        raise HardStop(
            f"there is no {quoted(tool)} {quoted(subtask)}",
            expected="; ".join(f"{t} {'|'.join(s)}" for t, s in SUBTASKS.items()),
        )
    if not Path(spec_path).is_absolute():
        raise HardStop("a job's spec must be given by its absolute path", found=quoted(spec_path, 200))
    tail = (subtask, "-e", str(spec_path), *overrides)
    for argument in tail:
        if _BREAKS_LAUNCHER & set(argument) or "\0" in argument:
            raise HardStop(
                "an argument holds a character that TAO's launcher cannot take",
                found=quoted(argument, 200),
                expected="no space, quote, back-slash or #",
                hint="move the workspace to a plain path",
            )
    for override in overrides:
        if "=" not in override:
            raise HardStop("not an override", expected="key=value", found=quoted(override))
    if container:
        return (tool, *tail)
    if engine == "embedded":
        return (python or sys.executable, "-m", "deft_aoi.engines.embedded", tool, *tail)
    if python is None:
        return (tool, *tail)
    console = Path(python).with_name(tool)
    return (str(console), *tail) if console.exists() else (python, "-m", _TAO_MODULES[tool], *tail)


def environment(engine: str, *, offline: bool = True) -> dict[str, str]:
    """What the engine's jobs need in their environment, whatever the platform.

    Args:
        engine: ``tao`` or ``embedded``.
        offline: forbid downloads from model hubs (every job but ``assets``).
    """
    settings = {"PYTHONUNBUFFERED": "1", "WANDB_MODE": "disabled"}
    if engine == "embedded":
        # One thread: several jobs share the machine, and sums keep one order, so that a run repeats to the last digit.
        settings |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if offline:
        settings |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return settings

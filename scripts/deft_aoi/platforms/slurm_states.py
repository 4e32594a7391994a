"""SLURM's states: what each word means for a job, and what is known when controller, accounting and exit file disagree.

Three witnesses. The script's own exit file is the first: a 0 there is the end, whatever the scheduler says. The controller
(``scontrol``) knows what waits and runs now and forgets a job some minutes after its end. Accounting (``sacct``) remembers,
but may lag behind, keep saying RUNNING for ever, or name the end of a run that SLURM has since put back into the queue.
"""

from __future__ import annotations

from typing import NamedTuple

from deft_aoi.platforms.base import JobState


class Word(NamedTuple):
    """What one of SLURM's words means.

    Attributes:
        state: the common state.
        reason: why it ended, for a person; empty where the exit code says it.
        lost: no fault of the job: it ended because its host or its place went away, and may be run again.
    """

    state: JobState
    reason: str = ""
    lost: bool = False


_WAITS, _RUNS, _FAILED = Word(JobState.PENDING), Word(JobState.RUNNING), Word(JobState.ERROR)
WORDS = {
    "PENDING": _WAITS,
    "CONFIGURING": _WAITS,
    "REQUEUED": _WAITS,
    "EXPEDITING": _WAITS,
    "POWER_UP_NODE": _WAITS,
    "REQUEUE_FED": _WAITS,
    "REQUEUE_HOLD": _WAITS,
    "SPECIAL_EXIT": _WAITS,
    "RESV_DEL_HOLD": _WAITS,
    "SUSPENDED": _WAITS,
    "STOPPED": _WAITS,
    "RUNNING": _RUNS,
    "RESIZING": _RUNS,
    "SIGNALING": _RUNS,
    "STAGE_OUT": _RUNS,
    "COMPLETING": _RUNS,
    "COMPLETED": Word(JobState.COMPLETE),
    "CANCELLED": Word(JobState.CANCELED),
    "REVOKED": Word(JobState.CANCELED),
    "FAILED": _FAILED,
    "TIMEOUT": Word(JobState.ERROR, "time limit"),
    "DEADLINE": Word(JobState.ERROR, "time limit"),
    "OUT_OF_MEMORY": Word(JobState.ERROR, "the host's memory ran out"),
    "NODE_FAIL": Word(JobState.ERROR, "a node failed", lost=True),
    "PREEMPTED": Word(JobState.ERROR, "preempted", lost=True),
    "BOOT_FAIL": Word(JobState.ERROR, "a node did not boot", lost=True),
    "LAUNCH_FAILED": Word(JobState.ERROR, "the node could not launch it", lost=True),
    "RECONFIG_FAIL": Word(JobState.ERROR, "the node could not be set up", lost=True),
}


class Seen(NamedTuple):
    """What one witness says of a job.

    Attributes:
        word: SLURM's state; empty where it knows no such job.
        code: the exit code that it names.
        reason: why it waits (the controller's ``Reason``).
        restarts: how often SLURM has run it again by itself.
    """

    word: str = ""
    code: int | None = None
    reason: str = ""
    restarts: int = 0

    @property
    def is_active(self) -> bool:
        """Whether the job waits or runs, as this witness says."""
        return bool(self.word) and (self.word not in WORDS or WORDS[self.word].state in (JobState.PENDING, JobState.RUNNING))


class Judgement(NamedTuple):
    """The common state, the exit code and one line for a person."""

    state: JobState
    code: int | None
    detail: str


def judge(job_id: str, written: int | None, controller: Seen | None, accounting: Seen | None) -> Judgement:
    """Decide what is true of a job.

    Args:
        job_id: SLURM's number of it.
        written: the code in its exit file; ``None`` without one.
        controller: what ``scontrol`` says; ``None`` where it does not answer.
        accounting: what ``sacct`` says; ``None`` where it does not answer or keeps nothing.
    """
    if written == 0:
        return Judgement(JobState.COMPLETE, 0, "")
    if controller is not None and controller.word:
        return _active(job_id, controller) if controller.is_active else _ended(job_id, written, controller)
    if accounting is None or not accounting.word:
        if written is not None:
            return Judgement(JobState.ERROR, written, f"exit code {written}")
        if controller is None:
            return Judgement(JobState.UNKNOWN, None, f"job {job_id}: the scheduler does not answer")
        return _lost(f"job {job_id}: the scheduler has no such job any more and it left no exit code")
    if controller is None:  # accounting alone: it may not know yet that SLURM runs the job again
        if accounting.is_active:
            return _active(job_id, accounting)
        known = WORDS[accounting.word]
        if known.lost:
            return Judgement(JobState.UNKNOWN, None, f"job {job_id} {known.reason}; the controller does not answer")
        return _ended(job_id, written, accounting)
    if accounting.is_active:  # the controller has no such job: accounting missed its end
        if written is not None:
            return Judgement(JobState.ERROR, written, f"exit code {written}")
        return _lost(f"job {job_id}: accounting says {accounting.word}, the controller has no such job, and it left no exit code")
    return _ended(job_id, written, accounting)


def _active(job_id: str, seen: Seen) -> Judgement:
    if seen.word not in WORDS:  # a word of a newer release
        return Judgement(JobState.UNKNOWN, None, f"job {job_id}: the scheduler says {seen.word}")
    if seen.word == "COMPLETING":  # it failed, or scancel ended it: the next word says which
        return Judgement(JobState.RUNNING, None, f"job {job_id} ends")
    why = f" ({seen.reason})" if seen.reason not in ("", "None") else ""
    again = f", run again by SLURM ({seen.restarts})" if seen.restarts else ""
    return Judgement(WORDS[seen.word].state, None, f"job {job_id} {seen.word.lower()}{why}{again}")


def _ended(job_id: str, written: int | None, seen: Seen) -> Judgement:
    word = WORDS[seen.word]
    if word.state is JobState.CANCELED:
        return Judgement(JobState.CANCELED, seen.code, "canceled")
    if word.lost:
        return _lost(word.reason)
    code = written if written is not None else seen.code
    if word.reason:
        return Judgement(JobState.ERROR, code or None, word.reason)
    if code is None:
        return Judgement(JobState.UNKNOWN, None, f"job {job_id}: the scheduler says {seen.word} and no exit code")
    return Judgement(JobState.COMPLETE, 0, "") if code == 0 else Judgement(JobState.ERROR, code, f"exit code {code}")


def _lost(detail: str) -> Judgement:
    """No exit code: the driver runs such a job again under a new name."""
    return Judgement(JobState.ERROR, None, detail)

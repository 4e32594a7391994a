"""The files behind the gate: pending plan, its Summary, newest-pending pointer, approval.

They lie in the user's state folder, outside every workspace, and are written by code only::

    $XDG_STATE_HOME/deft-aoi/plans/<digest>.json            the plan that pre-flight resolved
    $XDG_STATE_HOME/deft-aoi/plans/<digest>.summary.json    {text} of the Summary that pre-flight printed
    $XDG_STATE_HOME/deft-aoi/plans/pending.json             {digest, workspace, ts} of the newest one
    $XDG_STATE_HOME/deft-aoi/plans/<digest>.approval.json   {digest, how, words, ts, session, run, opened}

Agent hooks load this module before every command of the skill, so it imports nothing but ``os``, ``json`` and
``time``. An approval is evidence and an interlock: somebody who may write the user's files can forge one.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from .user_folders import user_folder

HOWS = ("terminal", "yes-flag", "user_prompt_hook")
"""Who approved: a person typing at a terminal, a person's ``--yes`` at the start, a person's words to an agent."""

MAX_WORDS = 200
"""Characters of the person's own words that an approval keeps."""

MAX_PLAN_BYTES = 4 * 1024 * 1024


def plans_dir() -> str:
    """Folder of the gate files: ``$XDG_STATE_HOME/deft-aoi/plans`` (``~/.local/state`` where the variable is unset)."""
    return os.path.join(user_folder("state"), "plans")


def is_digest(value: object) -> bool:
    """True for 64 lower-case hexadecimal characters."""
    return isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)


def write_pending(plan: dict[str, Any]) -> str:
    """Keeps a resolved plan and names it the newest pending one.

    Args:
        plan: must hold ``digest`` (64 hex) and ``workspace`` (absolute path); other keys are the planner's.

    Returns:
        The path of the plan's file.

    Raises:
        HardStop: the digest is not one.
    """
    digest = plan.get("digest")
    _require_digest(digest)
    path = os.path.join(plans_dir(), f"{digest}.json")
    _write(path, plan)
    pointer = {"digest": digest, "workspace": str(plan.get("workspace", "")), "ts": _now()}
    _write(os.path.join(plans_dir(), "pending.json"), pointer)
    return path


def read_pending(digest: str | None = None) -> dict[str, Any] | None:
    """The pending plan of a digest, or the newest pending one.

    Returns:
        The plan, or None where there is none.

    Raises:
        HardStop: a file is damaged, belongs to another user, or holds another digest than its name says.
    """
    if digest is None:
        pointer = _read(os.path.join(plans_dir(), "pending.json"))
        if pointer is None:
            return None
        digest = pointer.get("digest")
    _require_digest(digest)
    path = os.path.join(plans_dir(), f"{digest}.json")
    plan = _read(path)
    if plan is not None and plan.get("digest") != digest:
        raise _damaged(path, "the digest that the file is named for", repr(plan.get("digest"))[:80])
    return plan


def write_summary(digest: str, text: str) -> None:
    """Keeps the Summary of a pending plan: a go counts only after this text was shown."""
    _require_digest(digest)
    _write(os.path.join(plans_dir(), f"{digest}.summary.json"), {"text": text})


def read_summary(digest: str) -> str:
    """The Summary of a pending plan; empty where none was kept."""
    _require_digest(digest)
    record = _read(os.path.join(plans_dir(), f"{digest}.summary.json"))
    return "" if record is None else str(record.get("text", ""))


def write_approval(digest: str, how: str, words: str, session: str = "") -> str:
    """Records that a person approved exactly this plan.

    Args:
        digest: the plan's digest; the plan must be pending.
        how: one of ``HOWS``.
        words: what the person typed; kept to ``MAX_WORDS`` characters.
        session: the conversation's identifier, where there is one.

    Returns:
        The path of the approval file.

    Raises:
        HardStop: unknown ``how``, or no such pending plan.
    """
    if how not in HOWS:
        raise _damaged("an approval", f"one of {', '.join(HOWS)}", repr(how))
    if read_pending(digest) is None:
        raise _damaged("an approval", "a plan that pre-flight printed", f"no pending plan {digest[:12]}")
    path = os.path.join(plans_dir(), f"{digest}.approval.json")
    record = {"digest": digest, "how": how, "words": words[:MAX_WORDS], "ts": _now(), "session": session[:80]}
    _write(path, record)
    return path


def read_approval(digest: str) -> dict[str, Any] | None:
    """The approval of exactly this plan that has not opened a run yet, or None: an approval is for one run.

    Where it names a run without a log, opening that run was interrupted; it is that run which is opened.

    Raises:
        HardStop: the file is damaged, belongs to another user, or approves another digest.
    """
    _require_digest(digest)
    path = os.path.join(plans_dir(), f"{digest}.approval.json")
    record = _read(path)
    if record is None:
        return None
    if record.get("digest") != digest or record.get("how") not in HOWS:
        raise _damaged(path, "an approval of the plan that it is named for", "another digest or an unknown author")
    used = record.get("opened") or os.path.exists(os.path.join(str(record.get("run") or "/nowhere"), "loop_log.jsonl"))
    return None if used else record


def consume_approval(approval: dict[str, Any], run: str, *, opened: bool) -> None:
    """Says which run an approval opens: its folder's path before that is made, and ``opened`` once its log has begun."""
    _write(os.path.join(plans_dir(), f"{approval['digest']}.approval.json"), {**approval, "run": run, "opened": opened})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _write(path: str, record: dict[str, Any]) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.tmp-{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        json.dump(record, handle, sort_keys=True, indent=1, ensure_ascii=True)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def _read(path: str) -> dict[str, Any] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, "a plain file", error.strerror or "unreadable") from error
    with os.fdopen(descriptor, "rb") as handle:
        owner = os.fstat(handle.fileno()).st_uid
        if owner not in (os.geteuid(), 0):
            raise _damaged(path, "a file of this user", f"owner {owner}")
        raw = handle.read(MAX_PLAN_BYTES + 1)
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "JSON", "something else") from error
    if not isinstance(record, dict) or len(raw) > MAX_PLAN_BYTES:
        raise _damaged(path, "one JSON object of at most 4 MiB", f"{type(record).__name__}, {len(raw)} bytes")
    return record


def _require_digest(digest: object) -> None:
    if not is_digest(digest):
        raise _damaged("plan digest", "64 hexadecimal characters", repr(digest)[:80])


def _damaged(what: str, expected: str, found: str) -> Exception:
    from .errors import HardStop  # here, so that a hook which never fails never loads it

    return HardStop(f"{what}: not what the gate expects", expected=expected, found=found, hint="run preflight.py again")

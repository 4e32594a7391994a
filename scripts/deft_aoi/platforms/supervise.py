"""The parent of one local job: ``python -m deft_aoi.platforms.supervise RECORD.json``.

It lives in a session of its own, so that it outlives the driver, its terminal and an agent's tool call. It starts the
command in a process group of its own, pumps its output into the log (secrets masked), keeps a heartbeat, ends the job
at its time limit, and writes the exit code atomically as its last act. Files beside the record ``NAME.job.json``:

    NAME.run.json    who the supervisor and the child are: pid, start time (clock ticks since boot), boot id
    NAME.cancel      somebody wants the job to end (written by ``cancel``)
    NAME.exit.json   exit code and state; its presence means that the job has ended
    .NAME.run.lock   held (flock) for the supervisor's life: a second one finds it held and goes away

Standard library only: it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from deft_aoi.contract import files
from deft_aoi.platforms.redact import LineRedactor

BEAT_SEC = 5.0
GRACE_SEC = 10.0
_PR_SET_PDEATHSIG = 1


def boot_id() -> str:
    """This boot of this machine: a pid from another boot means nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return f"{os.uname().nodename}"


def start_ticks(pid: int) -> int | None:
    """When process ``pid`` started, in clock ticks since boot; ``None`` where it is gone or a zombie."""
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as handle:  # noqa: UP031 - nothing but a number
            fields = handle.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_alive(identity: dict[str, Any]) -> bool:
    """Whether exactly this process (pid, start time, boot) still runs."""
    return identity.get("boot_id") == boot_id() and start_ticks(int(identity["pid"])) == identity.get("start_ticks")


def _identity(pid: int) -> dict[str, Any]:
    return {"pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id()}


def _die_with_parent() -> None:
    # Without its supervisor nobody would write the exit code: a job that nobody vouches for must not go on.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    # WNOWAIT: until it is reaped the child's pid, which is the group's id, cannot belong to anybody else.
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the job's process group, SIGKILL to what is left of it after the grace period."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        end = time.monotonic() + GRACE_SEC
        while time.monotonic() < end and not _has_ended(child):
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)


def _pump(child: subprocess.Popen[bytes], log_fd: int, request: dict[str, Any], paths: dict[str, str], secrets: list[str]) -> str:
    """Copy the child's output to the log until it has ended; return why it was ended by us, or an empty string."""
    assert child.stdout is not None
    source, redactor = child.stdout.fileno(), LineRedactor(secrets)
    limit = request.get("time_limit_sec")
    end, beat, ended_at, reason, is_open = time.monotonic() + (limit or 0), 0.0, None, "", True
    while True:
        ready = select.select([source], [], [], 0.2)[0] if is_open else ()
        if ready:
            chunk = os.read(source, 1 << 16)
            is_open = bool(chunk)
            _write(log_fd, redactor.feed(chunk))
        elif not is_open:
            time.sleep(0.05)
        now = time.monotonic()
        if now - beat > BEAT_SEC:
            beat = now
            with contextlib.suppress(OSError):
                os.utime(paths["run"])
        if not reason and not _has_ended(child):
            if os.path.exists(paths["cancel"]):
                reason = "canceled"
            elif limit and now > end:
                reason = "time limit"
            if reason:
                _end_group(child)
        if _has_ended(child):
            ended_at = ended_at or now
            # A grandchild may hold the pipe open for ever; what the job itself wrote is in the pipe already.
            if not is_open or (not ready and now - ended_at > 0.5):
                _write(log_fd, redactor.close())
                return reason


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _take_lock(folder: str, name: str) -> int | None:
    fd = os.open(os.path.join(folder, f".{name}.run.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _run(record_path: str, request: dict[str, Any], paths: dict[str, str], environment: dict[str, str]) -> None:
    started = os.stat(record_path).st_mtime_ns
    os.makedirs(os.path.dirname(request["log_path"]), exist_ok=True)
    log_fd = files.open_log(request["log_path"], append=True)
    outcome: dict[str, Any] = {"version": 1, "started_ns": started, "exit_code": None, "reason": ""}
    try:
        child = subprocess.Popen(
            request["argv"],
            cwd=request["cwd"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except OSError as error:
        _write(log_fd, f"cannot start: {error.strerror}: {request['argv'][0]}\n".encode())
        outcome.update(exit_code=127, reason=f"cannot start: {error.strerror}")
    else:
        files.atomic_write_json(
            paths["run"],
            {"version": 1, "supervisor": _identity(os.getpid()), "child": _identity(child.pid), "started_ns": started},
        )
        secrets = [environment[n] for n in request["secret_names"]]
        outcome["reason"] = _pump(child, log_fd, request, paths, secrets)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)  # leftovers of the group: data-loader workers, helpers
        code = child.wait()
        outcome["exit_code"] = code if code >= 0 else 128 - code
    os.fsync(log_fd)
    files.atomic_write_json(paths["exit"], outcome)


def main(argv: list[str] | None = None) -> int:
    """Supervise the job of one record.

    The job's environment (with its secrets) comes as JSON on standard input, never by a file or an argument. A byte on
    standard output says that this supervisor has taken the name.
    """
    record_path = (sys.argv[1:] if argv is None else argv)[0]
    folder, base = os.path.split(os.path.abspath(record_path))
    name = base[: -len(".job.json")]
    paths = {
        kind: os.path.join(folder, f"{name}.{suffix}")
        for kind, suffix in (("run", "run.json"), ("exit", "exit.json"), ("cancel", "cancel"))
    }
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    lock = _take_lock(folder, name)
    if lock is None or os.path.exists(paths["exit"]):
        return 0
    request = files.read_json(record_path, what="job record")["request"]
    environment = json.loads(sys.stdin.buffer.read())
    files.atomic_write_json(
        paths["run"],
        {"version": 1, "supervisor": _identity(os.getpid()), "child": None, "started_ns": os.stat(record_path).st_mtime_ns},
    )
    with contextlib.suppress(OSError):
        os.write(1, b"+")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        _run(record_path, request, paths, environment)
    except BaseException as error:  # the driver must learn of it: there is nobody else to tell
        files.atomic_write_json(
            paths["exit"],
            {
                "version": 1,
                "started_ns": os.stat(record_path).st_mtime_ns,
                "exit_code": None,
                "reason": f"supervisor: {type(error).__name__}: {error}",
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

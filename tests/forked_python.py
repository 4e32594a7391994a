"""Our scripts and jobs as real processes that cost no import: a fork of the tests' process instead of a new interpreter.

Most of what the tests' scripts and jobs would spend is the import of torch and pandas. So a command that is our own Python
program is started by ``fork`` from a process that has imported them: it has a pid, a session, signals, descriptors and an
exit code of its own as ever. Our own modules are imported afresh, so nothing that a test patched reaches it. What the
interpreter itself is asked for (options, encodings, ``LD_PRELOAD``) is a new interpreter, as is all that is not ours.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import inspect
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PACKAGE = "deft_aoi"
IMPORTED_ONCE = (
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "PIL.Image",
    "yaml",
)
IMPORTED_ONCE += ("jsonschema", "torch", "scipy.stats", "jinja2")
LIGHT = {f"{PACKAGE}.analysis.digest_workers"}
"""A new interpreter that imports next to nothing is cheaper than a fork."""
_ALSO_OURS = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"}
_PYCACHE = tempfile.mkdtemp(prefix="deft-pycache-")
atexit.register(shutil.rmtree, _PYCACHE, ignore_errors=True)
_STARTED_WITH = dict(os.environ)
_SHAPE = "args executable preexec_fn close_fds pass_fds cwd env startupinfo creationflags shell p2cread p2cwrite c2pread c2pwrite"
_SHAPE += " errread errwrite restore_signals gid gids uid umask start_new_session process_group"
_start_interpreter = subprocess.Popen._execute_child  # type: ignore[attr-defined]


@contextlib.contextmanager
def forks() -> Iterator[None]:
    """Inside, ``subprocess`` forks for our programs; a Python that starts processes in another way is left alone."""
    before = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    if list(inspect.signature(_start_interpreter).parameters)[1:] == _SHAPE.split():
        subprocess.Popen._execute_child = _execute_child  # type: ignore[attr-defined]
    try:
        yield
    finally:
        subprocess.Popen._execute_child = before  # type: ignore[attr-defined]


def is_ours(args: Any, env: Mapping[Any, Any] | None) -> bool:
    """Whether the command is one of our scripts or modules, with an interpreter like this one."""
    if not isinstance(args, (list, tuple)) or len(args) < 2 or not all(isinstance(a, (str, os.PathLike)) for a in args):
        return False
    words = [os.fspath(a) for a in args]
    if words[0] != sys.executable:
        return False
    script = len(words[1]) > 3 and words[1].endswith(".py") and Path(words[1]).parent == SCRIPTS and Path(words[1]).is_file()
    module = words[1] == "-m" and len(words) > 2 and words[2].split(".")[0] == PACKAGE and words[2] not in LIGHT
    return (script or module) and _asks_nothing_of_the_interpreter(env)


def _asks_nothing_of_the_interpreter(env: Mapping[Any, Any] | None) -> bool:
    wanted = os.environ if env is None else env
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in wanted.items()):
        return False
    if any(n.startswith("PYTHON") and n not in _ALSO_OURS and _STARTED_WITH.get(n) != v for n, v in wanted.items()):
        return False
    if "LD_PRELOAD" in wanted:
        return False
    return all(wanted.get(name) in (None, _STARTED_WITH.get(name)) for name in ("LC_ALL", "LC_CTYPE", "LANG"))


def _execute_child(self: Any, *given: Any) -> None:
    call = dict(zip(_SHAPE.split(), given, strict=True))
    plain = not call["shell"] and call["executable"] is None and call["umask"] < 0
    if not (plain and call["uid"] is call["gid"] is call["gids"] is None and is_ours(call["args"], call["env"])):
        _start_interpreter(self, *given)
        return
    _import_once()
    sys.stdout.flush()
    sys.stderr.flush()
    self.pid = os.fork()
    if self.pid == 0:
        _become(call)
    self._child_created = True
    _close_the_childs_ends(self, call)


def _close_the_childs_ends(process: Any, call: Mapping[str, Any]) -> None:
    devnull = getattr(process, "_devnull", None)
    for ours, theirs in (("p2cwrite", "p2cread"), ("c2pread", "c2pwrite"), ("errread", "errwrite")):
        if call[theirs] != -1 and call[ours] != -1 and call[theirs] != devnull:
            os.close(call[theirs])
    if devnull is not None:
        os.close(devnull)
    process._closed_child_pipe_fds = True


def _import_once() -> None:
    import importlib

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a pool of threads would not outlive the fork
    for name in IMPORTED_ONCE:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def _become(call: Mapping[str, Any]) -> NoReturn:
    code = 255
    try:
        gc.collect()
        gc.freeze()
        _own_descriptors(call)
        _own_process(call)
        _own_interpreter([os.fspath(a) for a in call["args"]], call["env"])
        code = _run([os.fspath(a) for a in call["args"]])
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
        code = 1
    os._exit(code)


def _own_descriptors(call: Mapping[str, Any]) -> None:
    faulthandler.disable()
    wanted = [call["p2cread"], call["c2pwrite"], call["errwrite"]]
    moved = [os.dup(fd) if 0 <= fd <= 2 else fd for fd in wanted]  # so that none is overwritten before it is taken
    for number, fd in enumerate(moved):
        if fd != -1:
            os.dup2(fd, number)
    keep = {0, 1, 2, *map(int, call["pass_fds"])}
    for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"):
        if call[name] not in {-1, *keep}:
            with contextlib.suppress(OSError):
                os.close(call[name])
    links = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    ends = Counter(links.values())
    for fd, link in links.items():
        # A library's own wake-up (Arrow's pipe to itself, an event counter) leads to no other process.
        if fd not in keep and not (link.startswith("pipe:") and ends[link] > 1) and "eventfd" not in link:
            with contextlib.suppress(OSError):
                os.close(fd)


def _own_process(call: Mapping[str, Any]) -> None:
    if call["cwd"] is not None:
        os.chdir(call["cwd"])
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN):
                signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if call["start_new_session"]:
        os.setsid()
    if call["process_group"] >= 0:
        os.setpgid(0, call["process_group"])
    if call["preexec_fn"] is not None:
        call["preexec_fn"]()


def _own_interpreter(words: Sequence[str], env: Mapping[str, str] | None) -> None:
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    tempfile.tempdir = None
    atexit._clear()
    sys.excepthook = sys.__excepthook__
    threading.excepthook = threading.__excepthook__
    logging.root.handlers.clear()
    warnings.resetwarnings()
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    warnings.simplefilter("ignore", ResourceWarning)
    warnings.showwarning = warnings._showwarning_orig  # type: ignore[attr-defined]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_pytest")]
    for name in [n for n in sys.modules if n.split(".")[0] == PACKAGE]:
        del sys.modules[name]
    import random
    from multiprocessing import resource_tracker

    import numpy as np
    from matplotlib.figure import Figure

    Figure.savefig = _blank  # type: ignore[method-assign]
    tracker = resource_tracker._resource_tracker  # the tests' own, if one of them started it: its descriptor is closed here
    tracker._fd = tracker._pid = None  # type: ignore[attr-defined]
    random.seed()
    np.random.seed()  # noqa: NPY002 - what is not seeded must differ
    theirs = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    installed = [p for p in sys.path if "site-packages" in p or p.startswith(sys.base_prefix)]
    sys.path[:] = [str(SCRIPTS) if words[1] != "-m" else os.getcwd(), *theirs, *installed]
    sys.argv[:] = list(words[1:])
    sys.dont_write_bytecode, sys.pycache_prefix = False, _PYCACHE
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        errors = "backslashreplace" if number == 2 else "strict"
        stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        if mode == "w" and (number == 2 or os.environ.get("PYTHONUNBUFFERED")):
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _blank(_figure: Any, file: Any, **_given: Any) -> None:
    """In place of a drawing, a sixth of what a loop would spend: ``tests/analysis/test_kpi.py`` draws."""
    file.write(b"not drawn in a test's fork\n")


def _run(words: Sequence[str]) -> int:
    code: object = 0
    try:
        if words[1] == "-m":
            sys.argv[:] = list(words[2:])
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        traceback.print_exc()
        code = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 0 if code is None else int(code) & 0xFF

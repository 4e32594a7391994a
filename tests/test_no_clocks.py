"""No test of ``make test`` depends on elapsed or processor time: a busy machine must not turn it red, nor a quiet one green."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime", "localtime", "gmtime", "sleep"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS} | {"now", "utcnow", "today", "getrusage"}
MODULES = {"time", "datetime", "date", "resource"}
ALLOWED = {
    "conftest.py": "`wait_until` ends a hang; no result depends on it",
    "tao_stand_in.py": "a status file has the date, as TAO's has",
    "integration/": "real services answer in their own time; not in `make test`",
    "faults/rig.py": "the budget of `make faults`; the tests give none",
    "faults/run.py": "the budget of `make faults`; its test gives none at all",
    "faults/fault_stages.py": "a kill after a random while, and how long the undisturbed run took (printed)",
    "faults/fault_kill.py": "a kill after a random while",
    "faults/fault_crowd.py": "readers pause so that writers get a processor",
    "security/run.py": "prints how long each part of `make security` took",
    "security/fuzz.py": "fuzzes for the seconds that `make security` gives it",
}


def reads(text: str) -> list[int]:
    """The lines of a module that read a clock or wait for one."""
    tree, names = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names |= {alias.asname or alias.name for alias in node.names if alias.name in CLOCKS}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).split(".")
            if (called[-1] in CLOCKS and len(called) > 1 and called[-2] in MODULES) or (len(called) == 1 and called[0] in names):
                found.append(node.lineno)
    return found


def test_no_test_reads_a_clock() -> None:
    wrong, used = [], set()
    for path in sorted(TESTS.rglob("*.py")):
        name = path.relative_to(TESTS).as_posix()
        allowed = next((entry for entry in ALLOWED if name == entry or (entry.endswith("/") and name.startswith(entry))), None)
        if lines := reads(path.read_text(encoding="utf-8")):
            used.add(allowed)
            wrong += [f"{name}:{line}" for line in lines if allowed is None]
    assert wrong == []
    assert used - {None} == set(ALLOWED), "an exception that nothing needs"


def test_every_spelling_is_found() -> None:
    for text in (
        "import time\ntime.sleep(1)",
        "import time\nx = time.monotonic() - y",
        "from time import perf_counter as now\nnow()",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime, timezone\ndatetime.now(timezone.utc)",
    ):
        assert reads(text), text
    assert not reads("import time\nmonkeypatch.setattr(time, 'time', lambda: 1.0)\nframe.is_monotonic_decreasing")

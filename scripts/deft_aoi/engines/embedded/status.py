"""``status.json`` as TAO 7.3.0 writes it: JSON lines, unpadded date and time, a sticky ``kpi``.

A line is ``{["epoch", "step", ...,] "date", "time", "status", "verbosity", "message"[, "kpi"]}``. TAO repeats the last
``kpi`` on every later line, so a reader keys on ``message``; the file is appended to, never truncated.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

STARTED, RUNNING, FAILURE = "STARTED", "RUNNING", "FAILURE"


class StatusLog:
    """Appends status lines to ``<folder>/status.json`` and echoes their messages on standard output."""

    def __init__(self, folder: Path) -> None:
        """Create the folder; earlier lines of the file stay, as in TAO."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "status.json"
        self._kpi: dict[str, float] | None = None

    def write(self, message: str, status: str = RUNNING, *, echo: bool = True, **leading: Any) -> None:
        """Append one line; ``leading`` fields (epoch, step, ...) come first, as TAO orders them."""
        now = datetime.datetime.now()
        line: dict[str, Any] = {
            **leading,
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": "INFO",
            "message": message,
        }
        if self._kpi is not None:
            line["kpi"] = self._kpi
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if echo:
            progress = " ".join(f"{key}={value}" for key, value in leading.items())
            metrics = " ".join(f"{key}={value:.6g}" for key, value in (self._kpi or {}).items())
            sys.stdout.write(" | ".join(part for part in (message.strip(), progress, metrics) if part) + "\n")
            sys.stdout.flush()

    def metrics(self, message: str, kpi: dict[str, float]) -> None:
        """Append a line with new metrics; they stay on the lines after it."""
        self._kpi = kpi
        self.write(message)

    def configuration(self, text: str) -> None:
        """Append the merged spec, in the file only."""
        self.write(f"Experiment configuration:\n{text}", echo=False)

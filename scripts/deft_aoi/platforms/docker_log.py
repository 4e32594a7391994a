"""A container's output as a log file, whole and with secrets masked."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from deft_aoi.contract.files import open_log
from deft_aoi.platforms.redact import LineRedactor


class Follower(threading.Thread):
    """Copies one container's output to the log, from the beginning.

    Whoever comes back after a crash rewrites the log instead of guessing where it ended. So the lock is held until the
    job is settled, not until the copy is whole: another driver in between would start a copy of a container that goes.
    """

    def __init__(self, container: Any, path: Path, secrets: list[str], lock: int) -> None:
        super().__init__(daemon=True)
        self._container, self._path, self._secrets, self._lock = container, path, secrets, lock
        self.is_complete = False

    def run(self) -> None:
        """Follow until the container has ended and all of its output is on disk."""
        import docker.errors
        import requests.exceptions

        redactor = LineRedactor(self._secrets)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(open_log(self._path, append=False), "wb") as handle:
                for chunk in self._container.logs(stream=True, follow=True, stdout=True, stderr=True):
                    handle.write(redactor.feed(chunk))
                    handle.flush()
                handle.write(redactor.close())
            self._container.reload()
            self.is_complete = self._container.status in ("exited", "dead")
        except (OSError, docker.errors.DockerException, requests.exceptions.RequestException):
            return  # the engine went away or the disk is full: the next status call follows again
        finally:
            if not self.is_complete:
                os.close(self._lock)

    def settled(self) -> None:
        """The job's end is on disk: others may have the lock."""
        os.close(self._lock)

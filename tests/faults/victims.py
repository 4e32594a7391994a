"""What is killed under strace: one append, or one stage publication. ``victims.py append|publish FOLDER``."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))

from deft_aoi.contract.errors import Blocked, DeftError  # noqa: E402
from deft_aoi.record import log, publish  # noqa: E402

KEY = "baseline/train/1"
PID = 4711
"""Temporary names carry the process id; strace must know them before it starts."""


def append(folder: str) -> str:
    """Append the one event of the test."""
    ack = log.append(folder, iter_label="baseline", stage="train", status="ok", summary="t", op_id=KEY, duration_sec=0.0)
    return str(ack.seq)


def publication(folder: str) -> str:
    """Publish the folder of one stage, as a stage does: adopt, else work in the attempt and publish."""
    final = os.path.join(folder, "baseline", "train")
    found = publish.adopt(final, inputs_digest="in")
    if found is None:
        attempt = publish.attempt_dir(final, inputs_digest="in")
        try:
            for name in ("a.pth", "b.json"):
                with open(os.path.join(attempt, name), "w", encoding="ascii") as handle:
                    handle.write(name * 100)
        except OSError as error:
            raise Blocked("the stage could not write") from error  # the stage's own work, not the record's
        found = publish.publish(attempt, final, inputs_digest="in")
    return found


def main() -> int:
    os.getpid = lambda: PID
    try:
        said = {"append": append, "publish": publication}[sys.argv[1]](sys.argv[2])
    except DeftError as error:
        sys.stderr.write(error.render())
        return error.exit_code
    os.write(1, f"{said}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

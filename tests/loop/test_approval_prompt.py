"""The prompt for an approval, at a real terminal."""

from __future__ import annotations

import io
import os
import pty
import sys

import pytest

from deft_aoi.contract.errors import ApprovalNeeded
from deft_aoi.loop import approval, gate

PLAN = {"digest": "a" * 58 + "b12c3d", "workspace": "/data/ws"}


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """What the prompt returns when a person types ``text`` at a terminal."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, text.encode())
        with os.fdopen(theirs, encoding="utf-8") as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            return approval.ask(PLAN)
    finally:
        os.close(ours)


def test_a_slip_of_the_fingers_may_be_repeated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(monkeypatch, "b12c3e\nB12C3D\n").strip() == "B12C3D"
    assert capsys.readouterr().err.count("not its last six") == 1


@pytest.mark.parametrize("text", ["\n", "no\nb12c3d\n", "b12c3e\n" * 3 + "b12c3d\n"])
def test_a_no_and_a_third_wrong_answer_approve_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(ApprovalNeeded):
        gate.approve(PLAN, typed=typed(monkeypatch, text), how="terminal")


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("b12c3d\n"))
    with pytest.raises(ApprovalNeeded, match="has not been approved"):
        approval.ask(PLAN)

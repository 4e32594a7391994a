"""The small rendered workspace of the loop's tests, for the tests that need a whole one."""

from __future__ import annotations

from ..loop.conftest import demo_source, workspace

__all__ = ["demo_source", "workspace"]

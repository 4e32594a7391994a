"""The fault modules are plain modules beside the tests: ``run.py`` runs them at length, the tests in short."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

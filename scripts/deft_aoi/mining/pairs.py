"""The pre-generated pairs in one place: ``scan`` reads them, ``stage`` copies them, ``check_unchanged`` guards them."""

from __future__ import annotations

from deft_aoi.mining.pregen_scan import PregenPair, PregenPairs, scan
from deft_aoi.mining.pregen_staging import StagedPairs, check_unchanged, load_staged, stage

__all__ = ["PregenPair", "PregenPairs", "StagedPairs", "check_unchanged", "load_staged", "scan", "stage"]

"""The stages of a run, in the order in which a reader meets them: the one table that every other place reads."""

from __future__ import annotations

from typing import NamedTuple

MANIFEST = "_MANIFEST.json"
EVALUATE_MANIFEST = "_EVALUATE.json"
"""What the evaluate stage leaves beside the scored sets: the files that it adds, by digest."""

END_REASONS = ("kpi_met", "max_iterations", "pool_exhausted", "hard_stop", "job_failed", "user_stop")
"""Why a loop ends: ``data["reason"]`` of ``loop_stop``, and the run's status from then on."""

POOL_FILES = tuple(f"synth_pool/source_{n}" for n in ("pool.csv", "pool.parquet", "embeddings.parquet", "embed.log"))
"""What a mining replaces in the published ``synth_pool/``; its event records them again."""
LEDGER_FILES = ("run/gap_ledger.parquet", "run/data_requests.json")
HOLDOUT = f"run/holdout/{MANIFEST}"
UNREGISTERED = f"run/unregistered/{MANIFEST}"


class StageSpec(NamedTuple):
    """One stage.

    Attributes:
        name: as the log has it.
        scope: ``run`` (once for the run) or ``iteration``.
        follows: stages after which it comes, ``""`` for the first; empty where its place is not in that order.
        may_stop: the loop may end after it.
        any_time: may be recorded whenever the run is approved (a note: even before).
        folder: below the iteration's folder (``run``: below the run's); empty for a stage that publishes none.
        publishes: the file of that folder that lists its files by digest, recorded as ``manifest`` (``voucher`` for that of
            an evaluation).
        digest_keys: other keys of the event's ``data`` → the file, relative to the run, of which it records the digest.
        rewrites: files, relative to the run, that its event may record in ``data["files"]``.
        phase: its row in the report's table of times.
    """

    name: str
    scope: str
    follows: tuple[str, ...] = ()
    may_stop: bool = False
    any_time: bool = False
    folder: str = ""
    publishes: str = ""
    digest_keys: tuple[tuple[str, str], ...] = ()
    rewrites: tuple[str, ...] = ()
    phase: str = "other"

    @property
    def manifest_key(self) -> str:
        """Key of the event's ``data`` with the digest of what it publishes."""
        return "voucher" if self.publishes == EVALUATE_MANIFEST else "manifest"


HAND_OVER = (
    ("best_model_sha256", "best_model.json"),
    ("best_spec_sha256", "best_model_inference_spec.yaml"),
    ("lineage_sha256", "lineage.parquet"),
)

STAGES = (
    StageSpec("approve", "run", follows=("",), digest_keys=(("plan_sha256", "run/plan.json"),)),
    StageSpec("assets", "run", follows=("approve",)),
    StageSpec("prestage", "run", follows=("assets",), folder="synth_pool", publishes=MANIFEST),
    StageSpec("train", "iteration", follows=("prestage", "dataset"), folder="train", publishes=MANIFEST, phase="training"),
    StageSpec("inference", "iteration", follows=("train",), folder="inference", publishes=MANIFEST, phase="scoring"),
    StageSpec("evaluate", "iteration", follows=("inference",), folder="inference", publishes=EVALUATE_MANIFEST),
    StageSpec(
        "rca", "iteration", follows=("evaluate",), may_stop=True, folder="rca_results", publishes=MANIFEST, rewrites=LEDGER_FILES
    ),
    StageSpec("routing", "iteration", follows=("rca",), may_stop=True, folder="routing_results", publishes=MANIFEST),
    StageSpec("anomalygen", "iteration", follows=("routing",), folder="anomalygen", publishes=MANIFEST),
    StageSpec(
        "data_mining",
        "iteration",
        follows=("anomalygen",),
        may_stop=True,
        folder="mining_filter",
        publishes=MANIFEST,
        rewrites=POOL_FILES,
        phase="mining",
    ),
    StageSpec("dataset", "iteration", follows=("data_mining",), folder="dataset", publishes=MANIFEST),
    StageSpec("loop_stop", "run"),
    StageSpec("handoff", "run", digest_keys=HAND_OVER, rewrites=(*LEDGER_FILES, HOLDOUT, UNREGISTERED)),
    StageSpec("report", "run", any_time=True, digest_keys=(("sha256", "DEFT_Loop_Report.html"),)),
    StageSpec("usage", "run", any_time=True),
    StageSpec("note", "run", rewrites=("run/spot_check.json",)),
)

BY_NAME = {spec.name: spec for spec in STAGES}
NAMES = tuple(BY_NAME)
PUBLISHED = tuple(spec.name for spec in STAGES if spec.scope == "iteration" and spec.publishes == MANIFEST)
"""Stages of an iteration that publish a folder with a manifest."""


def stages_between(after: str, last: str) -> tuple[str, ...]:
    """The stages that follow one another from the one after ``after`` to ``last``."""
    names: list[str] = []
    while not names or names[-1] != last:
        after = next(spec.name for spec in STAGES if after in spec.follows)
        names.append(after)
    return tuple(names)

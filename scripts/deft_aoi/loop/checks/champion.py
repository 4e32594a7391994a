"""Check 11: the model that a run continues from fits its spec, and was trained on nothing that is to judge it."""

from __future__ import annotations

from deft_aoi.analysis.identity import Part
from deft_aoi.contract.errors import HardStop
from deft_aoi.loop import champion, lineage
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig


def check_champion(session: Checklist, config: RunConfig) -> None:
    """Load the champion and hold its lineage against this week's validation, KPI and hold-out sets.

    Raises:
        HardStop: another network, other registration, or a part that it was trained on is in a set that judges.
    """
    said = config.continue_from
    if said is None:
        return
    model, rows = champion.load(said)
    champion.require_same_network(model, session.spec, config.engine)
    settled = session.config.registration if session.config else None
    if settled != said["registration"]:
        raise HardStop(
            "the champion was trained on goldens that were registered otherwise",
            expected=f"registration as it was trained with: {said['registration']}",
            found=f"--registration {settled}",
            hint="leave --registration out",
        )
    held = [
        Part(split.title, split.frame, split.layout, session.identities[name])
        for name, split in session.splits.items()
        if name != "train"
    ]
    near = lineage.refuse_leaks(rows, held, allow_near=config.allow_near_duplicates)
    if near:
        session.add(11, "warn", f"allowed by --allow-near-duplicates: {near} parts of the champion's lineage in another dress")
    session.add(
        11,
        "ok",
        f"champion {said['iteration']} of {said['run']}: trained on {len(rows):,} rows, none of them in a set that judges",
    )

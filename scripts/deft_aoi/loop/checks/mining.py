"""Whether hard rows may be mined here: not where goldens are displaced and stay so (docs/registration.md)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import digest_cache_home
from deft_aoi.loop.checks.session import Checklist
from deft_aoi.loop.config import RunConfig
from deft_aoi.mining.settings import DISPLACED_PX, DISPLACED_SHARE


def check_mining(session: Checklist, config: RunConfig) -> None:
    """Refuse ``hard``, and turn ``both`` into ``knn``, where the hardest good parts would be the displaced ones.

    Raises:
        UsageError: ``--mining hard`` with goldens that are displaced and not registered.
    """
    now = session.config or config
    if now.mining == "knn" or now.preprocessing is not None:
        return
    share = displaced_share(session)
    if share <= DISPLACED_SHARE:
        return
    found = f"{100 * share:.0f} % of the good training rows displaced by {DISPLACED_PX:g} px or more (at 64 px)"
    if now.mining == "hard":
        raise UsageError(
            "hard rows would teach the model to forgive displacement",
            expected=f"registered goldens, or at most {100 * DISPLACED_SHARE:g} % displaced",
            found=f"registration off, {found}",
            hint="--registration 6 moves the goldens, --mining knn does without hard rows",
        )
    session.config = replace(now, values={**now.values, "mining": "knn"})
    session.add(11, "warn", f"mining both becomes knn: registration is off and {found}", "--registration 6 moves the goldens")


def displaced_share(session: Checklist) -> float:
    """Share of the good training rows whose golden lies off; 0 where it cannot be measured (several goldens a part)."""
    from deft_aoi.analysis.registered_goldens import Preprocessing, ShiftCache, pairs_of

    if specs.has_several_goldens(session.spec):
        return 0.0
    size = specs.network_size(session.spec)
    train = session.splits["train"]
    pairs = pairs_of(train.frame, train.layout, session.identities["train"])
    good = [p for p, label in zip(pairs, train.frame["label"], strict=True) if label == "PASS"]
    shifts = [m.shift for m in ShiftCache(digest_cache_home(), Preprocessing(*size, None)).measure(good)]
    far = [np.hypot(s.dy, s.dx) * 64 / min(size) >= DISPLACED_PX for s in shifts]
    return float(np.mean(far)) if far else 0.0

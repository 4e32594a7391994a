"""Check 11: how far goldens lie from their tests, and whether moving them earns its place (docs/registration.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from deft_aoi.contract import spec as specs
from deft_aoi.contract.errors import UsageError
from deft_aoi.contract.paths import digest_cache_home
from deft_aoi.contract.text import is_pass
from deft_aoi.loop.checks.session import Checklist

if TYPE_CHECKING:
    from deft_aoi.analysis.registered_goldens import Measured, Pair
    from deft_aoi.loop.config import RunConfig

SAMPLE_ROWS = 2000
"""Rows of the sets that judge that are measured before the approval, at most; training and validation are measured whole."""


def check_registration(session: Checklist, config: RunConfig) -> None:
    """Measure shifts and settle ``registration``: ``auto`` becomes the parameters, or ``off``.

    Raises:
        UsageError: a limit was asked for and the goldens cannot be registered.
    """
    from deft_aoi.analysis.registered_goldens import Preprocessing, ShiftCache, pairs_of
    from deft_aoi.analysis.registration_trial import distribution, trial

    asked = config.registration
    if asked == "off":
        session.registration = {"asked": "off", "on": False, "why": "asked for"}
        return
    several = specs.has_several_goldens(session.spec)
    if several and asked != "auto":
        raise UsageError(
            "several goldens a part are not registered", expected="--registration off", found=f"--registration {asked}"
        )
    if several:
        session.registration = {"asked": asked, "on": False, "why": "several goldens a part"}
        _settle(session, config, "off")
        return
    champion = (config.values.get("continue_from") or {}).get("registration")
    follows = asked == "auto" and champion is not None
    how = Preprocessing(*specs.network_size(session.spec), None if asked == "auto" else int(asked))
    if follows and champion != "off":
        how = Preprocessing.read(champion)
    cache, found = ShiftCache(digest_cache_home(), how), {}
    others = [name for name in session.splits if name not in ("train", "validation")]
    for name, split in session.splits.items():
        pairs = pairs_of(split.frame, split.layout, session.identities[name])
        step = max(1, -(-sum(len(session.splits[o].frame) for o in others) // SAMPLE_ROWS)) if name in others else 1
        rows = list(range(0, len(pairs), step))
        found[name] = (rows, [pairs[i] for i in rows], cache.measure([pairs[i] for i in rows]))
    labels = {name: [split.frame["label"].iat[i] for i in found[name][0]] for name, split in session.splits.items()}
    known: list[tuple[str, Pair, Measured]] = [
        row for name in ("train", "validation") for row in zip(labels[name], *found[name][1:], strict=True)
    ]
    judged = trial([label for label, _, _ in known], [p.content_id for _, p, _ in known], [m for _, _, m in known])
    measured = [m for _, _, ms in found.values() for m in ms]
    on = champion != "off" if follows else asked != "auto" or judged.earned
    kpi = list(zip(labels["kpi"], found["kpi"][2], strict=True))
    hidden = [is_pass(label) for label, m in kpi if m.spot_in_strip]
    session.registration = {
        "asked": asked,
        "on": on,
        "why": "as the champion was trained" if follows else judged.why,
        "trial": judged.as_dict(),
        "all": distribution(measured, how),
        "sets": {name: distribution(ms, how) for name, (_, _, ms) in found.items()},
        "kpi_spot_in_strip": {"defects": hidden.count(False), "good_parts": hidden.count(True)},
    }
    _settle(session, config, how.as_dict() if on else "off")
    if judged.lost:
        session.add(
            11,
            "warn",
            f"registering goldens would hide defects: {judged.why}",
            "crops cut tight around the part show its displacement as the camera's: leave room around it, or keep it off",
        )
    session.add(11, "ok", line(session.registration))


def _settle(session: Checklist, config: RunConfig, decided: Any) -> None:
    session.config = replace(config, values={**config.values, "registration": decided})


def line(found: dict[str, Any]) -> str:
    """The Summary's line."""
    state, asked = ("on" if found["on"] else "off"), found["asked"]
    if "all" not in found:
        return f"registration off ({found['why']})"
    it = found["all"]
    said = "auto" if asked == "auto" else f"at most {asked} px, asked for"
    moved = (
        f"{_percent(it['moved_fraction'])} of goldens {'moved' if found['on'] else 'lie off'}, 95% by ≤ {it['p95_px']:g} px, "
        f"{_percent(it['at_limit_fraction'])} at the limit"
    )
    if not found["on"]:
        return f"registration {state} ({said}): {moved}; {found['why']}"
    spots = found["kpi_spot_in_strip"]
    return (
        f"registration {state} ({said}): {moved}; on average {_percent(it['strip_mean_fraction'])}, at most "
        f"{_percent(it['strip_max_fraction'])} of a crop at its border is not compared ({spots['defects']} KPI defects and "
        f"{spots['good_parts']} good parts differ there); {found['why']}; "
        "--registration off keeps your goldens"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g}%"

"""What a session may cost: turns, tokens, money. Prices are data with a date, in ``prices.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft_aoi.contract.errors import Blocked, UsageError

KINDS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_RATE = dict(zip(KINDS, ("input", "output", "cache_write", "cache_read"), strict=True))


@dataclass(frozen=True)
class Limits:
    """Upper bounds of one session; ``usd`` None means that money is not limited."""

    turns: int = 120
    tokens: int = 3_000_000
    usd: float | None = None


def load_prices(path: Path | None = None) -> dict[str, Any]:
    """The dated price table."""
    table: dict[str, Any] = json.loads((path or Path(__file__).with_name("prices.json")).read_text(encoding="utf-8"))
    return table


def rates(model: str, table: dict[str, Any]) -> dict[str, float] | None:
    """US dollars per million tokens of each kind for a model id, by the longest listed prefix; None where unlisted."""
    names = [name for name in table["models"] if model == name or model.startswith(f"{name}-")]
    return table["models"][max(names, key=len)] if names else None


@dataclass
class Meter:
    """Counts what a session has used and stops it at its limits.

    Raises:
        UsageError: a money limit for a model whose price is not in the table.
    """

    limits: Limits
    model: str
    table: dict[str, Any] = field(default_factory=load_prices)
    turns: int = 0
    used: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    def __post_init__(self) -> None:
        self.rates = rates(self.model, self.table)
        if self.limits.usd is not None and self.rates is None:
            raise UsageError(
                "a money limit needs a price",
                expected=f"a model listed in prices.json (as of {self.table['as_of']})",
                found=f"{self.model!r}, which is not listed",
                hint="limit by --max-tokens instead, or add its price",
            )

    @property
    def tokens(self) -> int:
        """All tokens so far, cached ones included."""
        return sum(self.used.values())

    @property
    def usd(self) -> float | None:
        """Money so far by the price table; None where the model has no price there."""
        if self.rates is None:
            return None
        return sum(self.used[kind] * self.rates[_RATE[kind]] for kind in KINDS) / 1e6

    def add(self, usage: dict[str, Any]) -> None:
        """Counts one model turn."""
        self.turns += 1
        for kind in KINDS:
            self.used[kind] += int(usage.get(kind) or 0)

    def check(self) -> None:
        """Before each model turn.

        Raises:
            Blocked: a limit is reached; the run on disk is whole and can be continued.
        """
        money = self.usd
        over = [
            text
            for hit, text in (
                (self.turns >= self.limits.turns, f"{self.turns} of {self.limits.turns} turns"),
                (self.tokens >= self.limits.tokens, f"{self.tokens:,} of {self.limits.tokens:,} tokens"),
                (
                    self.limits.usd is not None and money is not None and money >= self.limits.usd,
                    f"{money or 0:.2f} of {self.limits.usd or 0:.2f} USD",
                ),
            )
            if hit
        ]
        if over:
            raise Blocked(
                "the session's budget is used up",
                expected="a session within its limits",
                found="; ".join(over),
                hint="start again with a higher limit: the run continues from disk",
            )

    def line(self) -> str:
        """One line for a person."""
        money = f", about {self.usd:.2f} USD at prices of {self.table['as_of']}" if self.usd is not None else ""
        return f"{self.turns} turns, {self.tokens:,} tokens{money}"

"""Dealing boards to the parts of a workspace: whole boards, look-alikes together, the same way every time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from deft_aoi.contract.errors import HardStop, UsageError
from deft_aoi.workspaces.builder import SPLITS


def parse_fractions(text: str) -> dict[str, float]:
    """Read ``train=.2,validation=.1,kpi=.25,holdout=.1,pool=.35``.

    Returns:
        Fraction by part, in the order of ``SPLITS``, scaled to a sum of 1; ``holdout`` may be left out.

    Raises:
        UsageError: an unknown or missing part, or a value that is no positive number.
    """
    given: dict[str, float] = {}
    for item in text.split(","):
        name, _, value = item.partition("=")
        try:
            given[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError("a fraction cannot be read", expected="name=number, …", found=repr(item[:40])) from error
    wanted = set(SPLITS) - {"holdout"}
    if not wanted <= set(given) <= set(SPLITS) or not all(0 < v < float("inf") for v in given.values()):
        raise UsageError(
            "the fractions are not those of the parts",
            expected=f"{', '.join(SPLITS)} with a number above 0 each (holdout may be left out)",
            found=repr(text[:120]),
        )
    total = sum(given.values())
    return {name: given[name] / total for name in SPLITS if name in given}


def split_boards(
    clusters: Sequence[Sequence[str]],
    weights: Mapping[str, Mapping[Hashable, int]],
    fractions: Mapping[str, float],
    seed: int,
) -> dict[str, str]:
    """Deal clusters of boards to parts so that each part gets its fraction of every kind of row.

    The largest clusters go first; each goes where its rows are missed most.

    Args:
        clusters: boards that must stay together, each board in exactly one.
        weights: rows of each board by kind (label, product, …).
        fractions: share of each part, sum 1.
        seed: order among equals.

    Returns:
        Part of each board.

    Raises:
        HardStop: fewer clusters than parts.
    """
    if len(clusters) < len(fractions):
        raise HardStop(
            "there are too few boards to keep the parts apart",
            expected=f"at least {len(fractions)} boards that do not look alike",
            found=f"{len(clusters)}",
            hint="add boards, or leave out holdout in --fractions",
        )
    rows = [sum((Counter(weights[board]) for board in cluster), Counter()) for cluster in clusters]
    total: Counter[Hashable] = sum(rows, Counter())
    held: dict[str, Counter[Hashable]] = defaultdict(Counter)
    owned: Counter[str] = Counter()
    order = np.random.default_rng([seed, 11]).permutation(len(clusters))
    out: dict[str, str] = {}
    for index in sorted(order.tolist(), key=lambda i: -rows[i].total()):
        need = {
            part: sum(
                count / total[kind] * (1 - held[part][kind] / (fraction * total[kind])) for kind, count in rows[index].items()
            )
            for part, fraction in fractions.items()
        }
        # A part without any board comes first, else the last one could stay empty.
        best = max(fractions, key=lambda part: (owned[part] == 0 and len(out) > 0, need[part], fractions[part]))
        held[best].update(rows[index])
        owned[best] += 1
        out.update(dict.fromkeys(clusters[index], best))
    return out


def cluster_by_hash(hashes: Mapping[str, np.ndarray], max_distance: int) -> list[list[str]]:
    """Group names whose bit vectors differ in at most ``max_distance`` places, transitively.

    Args:
        hashes: (K,) 0/1 vectors of one length.
        max_distance: Hamming distance.

    Returns:
        Groups in order of their first member; members in the given order.
    """
    names = list(hashes)
    bits = np.stack([hashes[n] for n in names]).astype(np.float32)
    parent = list(range(len(names)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    ones = bits.sum(1)
    for start in range(0, len(names), 512):
        block = bits[start : start + 512]
        distance = ones[start : start + 512, None] + ones[None] - 2 * block @ bits.T
        for i, j in zip(*np.nonzero(distance <= max_distance + 0.5), strict=True):
            a, b = find(int(i) + start), find(int(j))
            parent[max(a, b)] = min(a, b)
    groups: dict[int, list[str]] = defaultdict(list)
    for i, name in enumerate(names):
        groups[find(i)].append(name)
    return list(groups.values())

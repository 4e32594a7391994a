"""The golden is moved onto the test exactly as the exhaustive search would, and border and limit are told."""

from __future__ import annotations

import numpy as np
import pytest

from deft_aoi.analysis.registration import (
    Registration,
    estimate_shifts,
    fit_golden,
    move_golden,
    reference_score,
    register,
    strip_pixels,
)


def exhaustive(test, golden, radius, penalty):
    """Every shift priced in float32; the first of equals in order of dy, then dx."""
    test, golden = test.astype(np.float32).mean(2), golden.astype(np.float32).mean(2)
    height, width = test.shape
    best = None
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            window = test[radius : height - radius, radius : width - radius]
            moved = golden[radius - dy : height - radius - dy, radius - dx : width - radius - dx]
            cost = np.abs(window - moved).mean()
            total = cost + penalty * 64 / min(height, width) * (abs(dy) + abs(dx))
            if best is None or total < best[0]:
                best = total, dy, dx, float(cost)
    return best[1:]


def board(rng, height, width, cell=6):
    """Blocks of colour, some noise: edges at every place, as copper and silkscreen have."""
    small = rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3))
    large = np.kron(small, np.ones((cell, cell, 1)))[:height, :width]
    return np.clip(large + rng.normal(0, 3, (height, width, 3)), 0, 255).astype(np.uint8)


def shifted_pair(rng, height, width, dy, dx):
    scene = board(rng, height + 40, width + 40)
    test = scene[20 : 20 + height, 20 : 20 + width]
    golden = scene[20 + dy : 20 + dy + height, 20 + dx : 20 + dx + width]
    return test, np.clip(golden + rng.normal(0, 3, golden.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 90), (128, 112), (9, 70), (2, 2), (1, 5)])
def test_batched_search_equals_the_exhaustive_one(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    how = Registration()
    radius = how.radius(height, width)
    offsets = [(0, 0), (1, -2), (-radius, radius), (radius + 2, 0)]
    pairs = [shifted_pair(rng, height, width, dy, dx) for dy, dx in offsets]
    found = [(s.dy, s.dx, s.cost_after) for s in estimate_shifts(pairs, how)]
    assert found == [exhaustive(t, g, radius, 0.3) for t, g in pairs]


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_equally_good_shifts_are_decided_as_the_exhaustive_search_does(penalty: float) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = (200, 17, 90)  # fits again every 4 pixels, and nothing tells up from down
    flat = np.full((64, 64, 3), 91, np.uint8)
    noise = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pairs = [(stripes, np.roll(stripes, 2, 1)), (stripes, stripes), (flat, flat), (flat, flat + 9), (noise, noise[::-1])]
    found = [(s.dy, s.dx, s.cost_after) for s in estimate_shifts(pairs, Registration(penalty=penalty))]
    assert found == [exhaustive(t, g, 6, penalty) for t, g in pairs]


def test_moved_golden_equals_the_test_where_it_has_pixels_and_differs_nowhere_at_the_border() -> None:
    scene = board(np.random.default_rng(1), 90, 90)
    test, golden = scene[10:74, 10:74], scene[13:77, 8:72]
    moved, shift = register(test, golden)
    assert (shift.dy, shift.dx, shift.size_px, shift.at_limit) == (3, -2, 3, False)
    assert np.array_equal(moved, test)
    assert shift.cost_after == 0.0 < shift.cost_before
    assert shift.strip_fraction == pytest.approx(1 - 61 * 62 / 64**2)


def test_pixels_in_the_strip_are_those_that_differ_from_the_golden_continued_outwards() -> None:
    golden = np.zeros((64, 64, 3), np.uint8)
    golden[:, 20:30] = 200
    test = move_golden(np.roll(golden, 3, axis=1), golden, 4, 3)
    assert strip_pixels(test, golden, 4, 3) == 0, "a trace that runs to the border goes on there"
    test[0:3, 40:43] = 200
    test[10:13, 40:43] = 200
    assert strip_pixels(test, golden, 4, 3) == 9, "what lies in the strip counts, what is compared does not"


def test_shift_beyond_the_radius_is_at_the_limit_and_a_limit_of_ones_own_counts() -> None:
    test, golden = shifted_pair(np.random.default_rng(2), 64, 64, 8, 0)
    assert estimate_shifts([(test, golden)], Registration(limit=8))[0][:2] == (8, 0)
    near, near_golden = shifted_pair(np.random.default_rng(3), 64, 64, 6, 0)
    shift = estimate_shifts([(near, near_golden)])[0]
    assert (shift.dy, shift.at_limit) == (6, True)
    nothing = estimate_shifts([(near, near_golden)], Registration(limit=0))[0]
    assert (nothing.moved, nothing.at_limit, nothing.strip_fraction) == (False, False, 0.0)


def test_order_of_pairs_and_company_in_a_batch_change_nothing() -> None:
    rng = np.random.default_rng(4)
    pairs = [shifted_pair(rng, 64 + 8 * (i // 3 % 2), 64, i % 5 - 2, i % 3) for i in range(70)]
    together = estimate_shifts(pairs)
    assert together == [estimate_shifts([pair])[0] for pair in pairs]
    assert estimate_shifts(pairs[::-1]) == together[::-1]
    assert estimate_shifts([]) == []


def test_golden_of_another_size_is_resized_first_and_never_guessed_at() -> None:
    test, golden = shifted_pair(np.random.default_rng(6), 64, 64, 2, 1)
    large = np.kron(golden, np.ones((2, 2, 1), np.uint8))
    moved, shift = register(test, large)
    assert moved.shape == test.shape
    assert (shift.dy, shift.dx) == (2, 1)
    assert fit_golden(test, golden) is golden
    with pytest.raises(ValueError, match="one size"):
        estimate_shifts([(test, large)])


def test_rule_without_training_is_the_largest_mean_of_five_by_five() -> None:
    golden = np.full((32, 40, 3), 100, np.uint8)
    test = golden.copy()
    assert reference_score(test, golden) == 0.0
    test[10:15, 20:25] = 130
    test[30, 5] = 255  # one hot pixel is 155/25, less than the block
    assert reference_score(test, golden) == reference_score(golden, test) == 30.0
    colour = golden.copy()
    colour[3:8, 3:8, 0] += 60
    colour[3:8, 3:8, 1] -= 60  # the grey value stays, the colour does not
    assert reference_score(colour, golden) == 40.0
    assert reference_score(test, move_golden(test, golden, 4, 0)) == 30.0

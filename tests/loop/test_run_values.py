"""A run is not planned with values that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from deft_aoi.contract.errors import UsageError
from deft_aoi.loop.config import resolve

SPEC: dict[str, Any] = {"model": {"backbone": {"type": "embedded_siamese"}}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_iterations", -3),
        ("max_iterations", 0),
        ("max_iterations", 101),
        ("num_gpus", 0),
        ("training_epochs", 0),
        ("top_k_per_target", 0),
        ("top_k_per_label", 0),
        ("min_similarity", "2"),
        ("min_similarity", "nan"),
        ("min_similarity", "most"),
    ],
)
def test_a_value_out_of_range_is_wrong_usage(name: str, value: object) -> None:
    resolve({}, SPEC)
    with pytest.raises(UsageError, match=name):
        resolve({name: value}, SPEC)


@pytest.mark.parametrize("epochs", [0, -1, True, "20"])
def test_epochs_that_mean_nothing_in_the_spec_are_refused_too(epochs: object) -> None:
    with pytest.raises(UsageError, match="training_epochs"):
        resolve({}, {**SPEC, "train": {"num_epochs": epochs}})

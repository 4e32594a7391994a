"""Codes of columns and the sieve for names, against pandas and against comparing every pair."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft_aoi.analysis import coding
from deft_aoi.analysis.coding import factorize, groups_of, name_codes, rows_named_as

VALUES = ["PASS", "", "open", None, "缺件", "a\0b", "open "]


@pytest.mark.parametrize("run", [1, 500])
@pytest.mark.parametrize("dtype", ["str", "category", object])
def test_codes_are_those_of_pandas_in_runs_and_shuffled_with_missing_cells(run: int, dtype: object) -> None:
    picked = np.random.default_rng(4).integers(0, len(VALUES), 9000 // run).repeat(run)
    cells = pd.Series([VALUES[i] for i in picked]).astype(dtype)
    codes, uniques = factorize(cells)
    assert sorted(set(codes.tolist())) == list(range(len(VALUES)))
    back = [uniques[c] for c in codes]
    assert [coding.cell_text(v) for v in back] == [VALUES[i] or "" for i in picked]
    assert len(np.unique(codes)) == pd.Series(cells).nunique(dropna=False)


def test_a_category_with_many_values_can_be_counted_with() -> None:
    boards = pd.Series([f"B{i}" for i in range(100)]).astype("category")
    assert boards.cat.codes.dtype == np.int8
    codes, _values = factorize(boards)
    assert (codes * 4).max() == 396


def test_a_column_that_is_absent_or_empty_has_no_groups() -> None:
    assert groups_of(pd.DataFrame({"boardname": ["", None]}), "boardname") is None
    assert groups_of(pd.DataFrame({"x": ["a"]}), "boardname") is None


def rows_of(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"input_path": "a", "golden_path": "g", "object_name": pd.Series(names, dtype="str")})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.text("AB1é@", max_size=12), st.booleans()), min_size=1, max_size=12))
def test_no_row_that_shares_a_name_slips_through_the_sieve(rows: list[tuple[str, bool]]) -> None:
    names, which = [n for n, _w in rows], np.array([w for _n, w in rows])
    found = set(rows_named_as(rows_of(names), which).tolist())
    for i, name in enumerate(names):
        twins = [j for j, other in enumerate(names) if j != i and other == name]
        if twins and (which[i] or which[twins].any()):
            assert i in found


def test_names_of_their_own_leave_nothing_to_compare_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "BLOCK_ROWS", 64)
    names = [f"R{i}" for i in range(1000)]
    which = np.arange(1000) % 20 == 0
    assert len(rows_named_as(rows_of(names), which)) == 0
    names[999] = "R40"
    found = rows_named_as(rows_of(names), which)
    assert found.tolist() == [40, 999]
    assert len(set(name_codes(rows_of(names), found).tolist())) == 1


def test_long_names_with_one_ending_are_told_apart_by_the_names_themselves() -> None:
    names = [f"C{i}_SolderLight" for i in range(50)]
    frame, which = rows_of(names), np.arange(50) < 5
    assert name_codes(frame, rows_named_as(frame, which)) is None


def test_codes_of_names_tell_folders_apart() -> None:
    frame = pd.DataFrame({"input_path": ["a", "b", "a"], "golden_path": ["g", "g", "g"], "object_name": ["C1", "C1", "C1"]})
    codes = name_codes(frame)
    assert codes is not None
    assert codes[0] == codes[2] != codes[1]

"""The percentages of the ceiling bar: they add up, and none is further off than rounding can be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_inspect.views.ceiling import share_out

SHARES = st.lists(st.integers(0, 10_000), min_size=1, max_size=4).filter(any)


@given(SHARES, st.sampled_from([100, 1000]))
def test_the_parts_add_up_to_the_whole_and_none_is_off_by_a_unit(counts, units):
    shares = [count / sum(counts) for count in counts]
    parts = share_out(shares, units)
    assert sum(parts) == units
    assert all(abs(part - share * units) < 1 for part, share in zip(parts, shares, strict=True))
    assert all(part == 0 for part, count in zip(parts, counts, strict=True) if not count)


@given(SHARES, st.sampled_from([100, 1000]))
def test_a_larger_part_is_never_shown_as_the_smaller(counts, units):
    shares = [count / math.fsum(counts) for count in counts]
    parts = sorted(zip(shares, share_out(shares, units), strict=True))
    by_share = sorted(part for _, part in parts)
    assert sorted(by_share) == [part for _, part in sorted(parts, key=lambda pair: (pair[0], pair[1]))]


@pytest.mark.parametrize(
    ("shares", "units", "parts"),
    [
        ((0.82367, 0.12177, 0.05456), 1000, [824, 122, 54]),
        ((0.82367, 0.12177, 0.05456), 100, [82, 12, 6]),
        ((0.29, 0.71), 100, [29, 71]),
        ((1 / 3, 1 / 3, 1 / 3), 100, [34, 33, 33]),
        ((0.0, 0.25, 0.5, 0.25), 1000, [0, 250, 500, 250]),
    ],
)
def test_the_largest_remainders_get_one_more(shares, units, parts):
    assert share_out(shares, units) == parts

"""The change by kind of query: tags, traits, and a correction that scipy agrees with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from rag_inspect.evaluation.slices import TRAITS, slice_queries, tag_queries
from rag_inspect.significance import benjamini_hochberg
from rag_inspect.types import Query


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_correction_is_scipys(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(false_discovery_control(p_values).tolist())


def test_nothing_to_correct():
    assert benjamini_hochberg([]) == []


def test_metadata_with_few_values_are_tags():
    queries = [
        Query(
            f"q{n}",
            "x",
            {"hard": ["name", "number"][n % 2], "note": f"unique {n}", "same": "a", "n": n, "long": "y" * 99},
        )
        for n in range(30)
    ]
    tags = tag_queries(queries)
    assert tags["q0"] == ("hard: name",) and tags["q1"] == ("hard: number",)
    lists = tag_queries([Query("a", "x", {"tags": ["one", "two"]}), Query("b", "x", {"tags": ["two"]})])
    assert lists == {"a": ("tags: one", "tags: two"), "b": ("tags: two",)}


@pytest.mark.parametrize(
    ("text", "traits"),
    [
        ("vector store", {"up to 4 words", "keywords"}),
        ("which store has no server?", {"a question", "with a negation"}),
        ("get_user_id returns HTTP 429", {"up to 4 words", "keywords", "with a number", "with code"}),
        ("Warum läuft das nicht", {"up to 4 words", "a question", "with a negation"}),
        (" ".join(["word"] * 15), {"15 words or more", "keywords"}),
    ],
)
def test_without_tags_the_text_tells(text, traits):
    [found] = tag_queries([Query("q", text)]).values()
    assert set(found) == traits <= set(TRAITS)


def test_the_worst_slice_comes_first_and_is_recomputed():
    tags = [["a"]] * 10 + [["b"]] * 10 + [["c"]] * 4
    before = np.full(24, 0.5)
    after = np.concatenate([[0.1, 0.3] * 5, [0.9, 1.0] * 5, np.zeros(4)])
    worst, best = slice_queries(tags, before, after, np.arange(24))
    assert (worst.tag, worst.queries, best.tag) == ("a", 10, "b")  # four queries are no slice
    assert worst.change.delta == pytest.approx(-0.3) and worst.after == pytest.approx(0.2)
    assert worst.clear and best.clear and worst.to_json()["p_corrected"] < 0.05
    assert worst.change.p_value == pytest.approx(2 / 2**10)


def test_queries_of_one_text_count_once_and_a_tag_of_all_is_no_slice():
    tags, flat = [["a", "all"]] * 6 + [["all"]] * 6, np.zeros(12)
    assert [each.tag for each in slice_queries(tags, flat, flat, np.arange(12))] == ["a"]
    assert slice_queries(tags, flat, flat, np.zeros(12, dtype=int)) == ()

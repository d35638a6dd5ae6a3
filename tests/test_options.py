"""Each check of what is asked for, with its one message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_inspect.errors import InputError, ModelError
from rag_inspect.options import EvalOptions, SearchOptions, split_names

WRONG = [["mini"], 2.0, True, None, 10**5000, 0, -1, 201]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_a_wrong_depth_is_one_clear_line(value):
    with pytest.raises(InputError, match=r"top_k is .*; expected a whole number from 1 to 200") as caught:
        SearchOptions(query="q", corpus="c", top_k=value).check()
    assert len(str(caught.value)) < 200


def test_an_unknown_model_lists_those_there_are():
    for key in ("none", ["mini"]):
        with pytest.raises(ModelError, match=r"no reranker .*; there are .*mini"):
            SearchOptions(query="q", corpus="c", reranker=key).check()
        with pytest.raises(ModelError, match=r"no reranker .*; there are .*mini"):
            EvalOptions(corpus="c", rerankers=[key]).check()


def test_top_n_follows_a_small_top_k():
    options = EvalOptions(corpus="c", top_k=3)
    options.check()
    assert options.kept == 3
    with pytest.raises(InputError, match="top_n 9 is more than top_k 3"):
        EvalOptions(corpus="c", top_k=3, top_n=9).check()


@given(st.text())
def test_split_names_are_whole_and_once(text):
    names = split_names(text)
    assert len(set(names)) == len(names)
    assert split_names(", ".join(names)) == names
    assert all(name == name.strip() and name and "," not in name for name in names)


def test_a_list_is_no_list_of_names():
    with pytest.raises(InputError, match="expected a string"):
        split_names(["mini"])

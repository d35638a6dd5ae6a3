"""Each check of what is asked for, with its one message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_inspect.errors import CorpusError, InputError, ModelError, RagInspectError
from rag_inspect.options import (
    LONGEST_QUERY,
    PUBLIC_PAIRS,
    EvalOptions,
    SearchOptions,
    check_pairs,
    split_names,
)
from rag_inspect.ui.controls import from_link
from rag_inspect.words import describe_value

WRONG = [["mini"], 2.0, True, None, 10**5000, 0, -1, 201]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_a_wrong_depth_is_one_clear_line(value):
    with pytest.raises(InputError, match=r"top_k is .*; expected a whole number from 1 to 200") as caught:
        SearchOptions(query="q", corpus="c", top_k=value)
    assert len(str(caught.value)) < 200


def test_an_unknown_model_lists_those_there_are():
    for key in ("none", ["mini"]):
        with pytest.raises(ModelError, match=r"unknown reranker .*; choose one of .*mini"):
            SearchOptions(query="q", corpus="c", reranker=key)
        with pytest.raises(ModelError, match=r"unknown reranker .*; choose one of .*mini"):
            EvalOptions(corpus="c", rerankers=[key])


def deep(depth=100_000):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def refusal(options, given):
    """The words of the refusal; "" where there is none. Any other error is a bug."""
    try:
        options(**given)
    except RagInspectError as error:
        return str(error)
    return ""


MALFORMED = [
    deep(),
    [deep()],
    10**5000,
    [10**5000],
    [True],
    [None],
    {"a": 1},
    "x" * 10**5,
    1.5,
    True,
    "\ud800",
]


@pytest.mark.parametrize("name", ["query", "corpus", "first_stage", "reranker", "top_k", "top_n"])
@pytest.mark.parametrize("value", MALFORMED, ids=range(len(MALFORMED)))
def test_whatever_a_search_is_called_with_is_made_or_refused_in_words(name, value):
    given = {"query": "q", "corpus": "c", name: value}
    said = refusal(SearchOptions, given)
    assert len(said) < 300 and (said or isinstance(value, str) or value is None)


@pytest.mark.parametrize(
    "name", ["corpus", "rerankers", "first_stages", "top_k", "top_n", "cutoffs", "split", "metrics"]
)
@pytest.mark.parametrize(
    "value", [*MALFORMED, "9" * 5000, "ndcg@" + "9" * 5000], ids=range(len(MALFORMED) + 2)
)
def test_whatever_an_evaluation_is_called_with_is_made_or_refused_in_words(name, value):
    given = {"corpus": "c", name: value}
    said = refusal(EvalOptions, given)
    assert len(said) < 300 and (said or isinstance(value, str))


def test_numbers_that_are_none_are_refused():
    for wrong in ([True], [1, False], [1.0], None, [[1]]):
        with pytest.raises(InputError, match="cutoffs are"):
            EvalOptions(corpus="c", cutoffs=wrong)
    for wrong in (None, "ndcg@10", 3):
        with pytest.raises(InputError, match=r"metrics are .*; expected a list of names"):
            EvalOptions(corpus="c", metrics=wrong)


def test_a_query_far_over_what_any_model_reads_is_refused():
    assert SearchOptions(query="x" * LONGEST_QUERY, corpus="c")
    with pytest.raises(InputError, match="the query has 200,001 characters; expected at most 200,000"):
        SearchOptions(query="x" * (LONGEST_QUERY + 1), corpus="c")


def test_top_n_follows_a_small_top_k():
    assert EvalOptions(corpus="c", top_k=3).kept == SearchOptions(query="q", corpus="c", top_k=3).kept == 3
    with pytest.raises(InputError, match=r"top_n cannot exceed top_k \(9 > 3\)"):
        EvalOptions(corpus="c", top_k=3, top_n=9)


@given(st.text())
def test_split_names_are_whole_and_once(text):
    if text and not text.replace(",", " ").strip():
        with pytest.raises(InputError, match="has no names"):
            split_names(text)
        return
    names = split_names(text)
    assert len(set(names)) == len(names)
    assert split_names(", ".join(names)) == names
    assert all(name == name.strip() and name and "," not in name for name in names)


def test_a_list_is_no_list_of_names():
    with pytest.raises(InputError, match="expected a string"):
        split_names(["mini"])


def test_an_evaluation_has_so_many_pairs_in_public_mode():
    options = EvalOptions(corpus="c", rerankers=["mini", "base"], top_k=50)
    check_pairs(options, queries=PUBLIC_PAIRS // 100, passages=1_000)
    two = EvalOptions(corpus="c", first_stages=["minilm", "bm25"], top_k=50)
    check_pairs(two, queries=PUBLIC_PAIRS // 100, passages=1_000)
    with pytest.raises(InputError, match="25,100 pairs"):
        check_pairs(two, queries=PUBLIC_PAIRS // 100 + 1, passages=1_000)
    check_pairs(options, queries=PUBLIC_PAIRS // 6, passages=3)  # it has no more candidates than passages
    with pytest.raises(InputError) as caught:
        check_pairs(options, queries=PUBLIC_PAIRS // 100 + 1, passages=1_000)
    assert str(caught.value) == (
        "the evaluation has 25,100 pairs (251 queries, top_k 50, 1 first stage, 2 rerankers); expected at most "
        "25,000 here: lower top_k, choose fewer first stages or rerankers, or another split"
    )
    with pytest.raises(
        InputError, match=r"25,001 pairs \(25,001 queries, top_k 1, 1 first stage, 1 reranker\)"
    ):
        check_pairs(EvalOptions(corpus="c", top_k=1, top_n=1), queries=25_001, passages=9)


def test_what_is_made_is_whole():
    options = EvalOptions(corpus="c", rerankers=["mini", "base", "mini"], cutoffs="10, 1,5")
    assert (options.rerankers, options.depths, options.kept) == (("mini", "base"), (1, 5, 10), 5)
    assert options.first_stages == ("minilm",) == EvalOptions(corpus="c", first_stages=()).first_stages
    several = EvalOptions(corpus="c", first_stages=["bm25", "hybrid:minilm+bm25", "hybrid", "recorded:mine"])
    assert several.first_stages == ("bm25", "hybrid", "recorded:mine")
    for wrong in ("mini", None, 3):
        for name in ("rerankers", "first_stages"):
            with pytest.raises(InputError, match="expected a list of names"):
                EvalOptions(corpus="c", **{name: wrong})
    with pytest.raises(InputError, match="cutoffs are"):
        EvalOptions(corpus="c", cutoffs=[0])


class Bench:
    """What a link is read against: one corpus, which cannot be opened."""

    default_corpus, default_reranker = "resources", "mini"

    def corpora(self):
        return {"resources": None}

    def corpus(self, name):
        raise CorpusError("broken")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, ""),
        ({"k": "9", "n": "9"}, ""),
        ({"n": "99"}, "top_n must be 1 to 20 with top_k 20 on this page; showing 20."),
        ({"n": "0"}, "top_n must be 1 to 20 with top_k 20 on this page; showing 1."),
        ({"n": "five"}, "top_n must be 1 to 20 with top_k 20 on this page; showing 5."),
        ({"k": "9", "n": "12"}, "top_n must be 1 to 9 with top_k 9 on this page; showing 9."),
        ({"k": "99", "n": "12"}, "top_k must be 5 to 50 on this page; showing 50."),
    ],
)
def test_a_link_says_which_depth_it_replaced(params, words):
    assert from_link(params, Bench())[1] == words


@given(
    st.dictionaries(
        st.sampled_from(["corpus", "first_stage", "embedder", "reranker", "k", "n", "q"]), st.text(max_size=8)
    )
)
def test_any_link_opens_something(params):
    options, _ = from_link(params, Bench())
    assert options.corpus == "resources" and 5 <= options.top_k <= 50
    assert 1 <= options.kept <= min(20, options.top_k)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1,2", "'1,2'"),
        ("1," * 50, f"'{'1,' * 29}1…'"),
        ([1] * 50, "[" + "1, " * 19 + "1…"),
        (12, "12"),
    ],
)
def test_a_value_in_a_message_is_cut_inside_its_quotes(value, said):
    assert describe_value(value) == said

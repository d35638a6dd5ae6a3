"""A query is known by its id: two of one text keep their own gold, and a pasted text finds the one that looks like it."""

from dataclasses import replace

import pytest

from rag_inspect import pipeline
from rag_inspect.errors import InputError
from rag_inspect.evaluation.assessment import assess
from rag_inspect.pipeline import find_candidates, make_query
from rag_inspect.types import Corpus, CorpusCard, Passage, Query
from rag_inspect.ui.controls import from_link
from rag_inspect.ui.picker import find_picked, picker_choices
from rag_inspect.views.evaluation import queue_html
from tests.evaluating import ExactRetriever, run_evaluation

PASSAGES = tuple(Passage(f"p{at}", text) for at, text in enumerate(("cat dog", "fox hen", "cow pig")))
TWINS = Corpus(
    CorpusCard(name="twins"),
    None,
    PASSAGES,
    (Query("one", "which animal"), Query("two", "which animal"), Query("other", "which café", {"a": 1})),
    {"test": {"one": {"p0": 1}, "two": {"p2": 1}, "other": {"p1": 1}}},
)


def gold(text, query_id=None):
    return find_candidates(ExactRetriever(TWINS), TWINS, text, 3, query_id).gold


def test_two_queries_of_one_text_keep_their_own_gold():
    assert (gold("", "one"), gold("which animal", "two")) == ({"p0"}, {"p2"})


def test_a_text_that_two_judged_queries_have_has_no_gold_and_a_note():
    query, [note] = make_query("which animal", TWINS)
    assert query == Query("", "which animal")
    assert note == "2 queries of the corpus have this text (one, two); query_id says which one is meant."
    assert gold("which animal") == frozenset()


@pytest.mark.parametrize(
    "pasted",
    [
        "which café",
        " which\n\tcafé ",
        "which\u00a0café",
        "which cafe\u0301",
        "whi\u200bch caf\u00e9\ufeff",
        "\u202awhich café\u202c",
    ],
)
def test_what_looks_the_same_is_the_judged_query(pasted):
    assert make_query(pasted, TWINS) == (TWINS.query_by_id["other"], ())


@pytest.mark.parametrize("other", ["Which café", "which cafe", "whichcafé"])
def test_what_looks_different_is_another_query(other):
    assert make_query(other, TWINS)[0] == Query("", other)


def test_a_judged_query_goes_before_one_that_nobody_judged():
    corpus = replace(TWINS, splits={"test": {"two": {"p2": 1}}})
    assert make_query("which animal", corpus)[0].query_id == "two"


def test_of_two_that_look_the_same_the_very_same_text_is_meant():
    spaced = Query("spaced", "which  animal")
    corpus = replace(
        TWINS, queries=(TWINS.queries[0], spaced), splits={"test": {"one": {"p0": 1}, "spaced": {"p1": 1}}}
    )
    assert (
        make_query("which  animal", corpus)[0] == spaced
        and make_query("which animal", corpus)[0].query_id == "one"
    )
    assert make_query("which   animal", corpus)[0].query_id == ""


@pytest.mark.parametrize(
    ("text", "query_id", "said"),
    [
        ("which animal", "three", 'twins has no query "three"'),
        ("which animal", "other", """query "other" of twins reads 'which café', not 'which animal'"""),
    ],
)
def test_an_id_that_is_none_or_belongs_to_another_text_is_refused(text, query_id, said):
    with pytest.raises(InputError) as caught:
        make_query(text, TWINS, query_id)
    assert said in str(caught.value)


def test_a_known_query_that_is_too_long_is_cut_and_keeps_its_id():
    long = replace(TWINS, queries=(Query("one", "word " * 20_000),))
    query, [note] = make_query("", long, "one")
    assert (query.query_id, len(query.text)) == (
        "one",
        pipeline.MAX_QUERY_CHARACTERS,
    ) and "were given" in note


def test_an_evaluation_keeps_both_and_its_rows_link_to_each():
    document = assess(run_evaluation(TWINS, top_k=3, top_n=1))
    assert [row.gold for row in document.per_query] == [("p0",), ("p2",), ("p1",)]
    page = queue_html(document, document.reranked[0].key, "", document.per_query)
    for query_id in ("one", "two", "other"):
        assert f"query_id={query_id}&amp;" in page
    assert "which animal (one)" in page and "which animal (two)" in page and "which café (" not in page


# The page's own


class Bench:
    default_corpus, default_reranker = "twins", "mini"

    def corpora(self):
        return {"twins": None}

    def corpus(self, name):
        return TWINS


@pytest.mark.parametrize(
    ("params", "query_id", "text", "trouble"),
    [
        ({"query_id": "two"}, "two", "which animal", ""),
        ({"query_id": "two", "q": " which  animal"}, "two", "which animal", ""),
        ({"q": "which animal"}, None, "which animal", ""),
        ({"q": "which café"}, "other", "which café", ""),
        (
            {"q": "my own", "query_id": "two"},
            None,
            "my own",
            'twins has no query "two" with this text; showing the text of the link.',
        ),
        (
            {"query_id": "gone"},
            "one",
            "which animal",
            'twins has no query "gone" with this text; showing the first example.',
        ),
    ],
)
def test_a_link_names_a_query_by_its_id(params, query_id, text, trouble):
    options, said = from_link(params, Bench())
    assert (options.query_id, options.query, said) == (query_id, text, trouble)


def test_the_picked_query_counts_while_its_text_stands_in_the_box():
    assert find_picked(TWINS, "which animal", "two") == "two" and find_picked(TWINS, "which animal") is None
    assert find_picked(TWINS, "which café", "two") == "other" and find_picked(TWINS, "else", "two") is None


def test_the_list_tells_queries_of_one_text_apart_and_holds_the_picked_one():
    labels = dict(picker_choices(TWINS))
    assert labels == {"which animal (one)": "one", "which animal (two)": "two", "which café": "other"}
    unjudged = replace(TWINS, splits={"test": {"one": {"p0": 1}}})
    assert [query_id for _, query_id in picker_choices(unjudged, "other")] == ["one", "other"]

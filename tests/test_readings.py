"""What a model did not read is said, of query and passage, for both stages."""

import re
from dataclasses import replace

import pytest

from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.eval_set import count_unread, select_eval_set
from rag_inspect.types import Corpus, CorpusCard, Passage, Query, Reading, write_search
from rag_inspect.views.passage import passage_html
from rag_inspect.views.readings import describe_readings
from tests.evaluating import ExactRetriever, ScriptedReranker, run_evaluation
from tests.searches import make_reranking

LONG = "moon " * 700


READ, WHOLE = Reading(5, 5), (Reading(9, 9),) * 6


def search(first=READ, second=READ, passages=WHOLE, reread=WHOLE):
    """A finished search of six passages in which each model told what it read."""
    made = make_reranking(moment="finished")
    ids = made.candidates.ranking.passage_ids
    found = {pid: replace(each, query=first) for pid, each in zip(ids, passages, strict=True)}
    seconds = second if isinstance(second, list) else [second] * 6
    told = {pid: replace(each, query=query) for pid, each, query in zip(ids, reread, seconds, strict=True)}
    return replace(made, candidates=replace(made.candidates, readings=found), readings=told)


def test_where_all_was_read_nothing_is_said():
    assert describe_readings(search()) == [] == describe_readings(make_reranking(moment="candidates"))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"first": Reading(254, 1294), "second": Reading(509, 1294)},
            "The query has 1,294 tokens; fixed read 254, fixed-reranker read 509.",
        ),
        (
            {"first": Reading(9, 9), "second": [Reading(300 + n, 1294) for n in range(6)]},
            "The query has 1,294 tokens; fixed-reranker read 300 to 305, depending on the passage.",
        ),
        (
            {"first": Reading(0, 0), "second": Reading(1, 1, unknown=1)},
            "fixed and fixed-reranker can read nothing of this query, which has no character that they know: "
            "the order means nothing.",
        ),
        (
            {"first": Reading(4, 4, unknown=1), "second": Reading(4, 4, unknown=1)},
            "fixed and fixed-reranker do not know 1 of the query's 4 tokens.",
        ),
        (
            {"passages": (Reading(9, 10),) * 2 + (Reading(9, 9),) * 4},
            "2 passages run past what fixed embeds.",
        ),
        (
            {"reread": (Reading(9, 29),) + (Reading(9, 9),) * 5},
            "fixed-reranker read only the start of 1 passage (20 tokens cut off).",
        ),
    ],
)
def test_what_was_not_read_is_one_sentence(told, said):
    assert describe_readings(search(**told)) == [said]


def test_two_tokenizers_are_two_sentences():
    lines = describe_readings(search(Reading(254, 1294), Reading(300, 1500)))
    assert lines == [
        "The query has 1,294 tokens; fixed read 254.",
        "The query has 1,500 tokens; fixed-reranker read 300.",
    ]


def test_the_document_and_the_panel_say_it_by_model():
    made = search(
        Reading(254, 1294), [Reading(300 + n, 1294, unknown=2) for n in range(6)], (Reading(9, 12),) * 6
    )
    document = write_search([made])
    assert document["query_readings"] == [
        {"model": "fixed", "read_tokens": 254, "total_tokens": 1294, "unknown_tokens": 0},
        {"model": "fixed-reranker", "read_tokens": 300, "total_tokens": 1294, "unknown_tokens": 2},
    ]
    assert {(hit["read_tokens"], hit["truncated_tokens"]) for hit in document["candidates"]} == {(9, 3)}
    words = re.sub(
        r"\s+", " ", re.sub("<[^>]+>", " ", passage_html(made, made.candidates.passages["plain1"]))
    )
    assert "tokens read by fixed 9 of 12" in words and "tokens read by fixed-reranker 9 of 9" in words


# The real models


@pytest.mark.parametrize("query", ["\u200b\u2060", "🦜🦜", "ሰላም ልዑል"])
def test_a_query_that_no_model_can_read_is_known(models, query):
    passages = [Passage("p", "a plain passage")]
    for model in (models.minilm, models.mini):
        [reading] = model.readings(query, passages)
        assert reading.query.means_nothing and reading.truncated == 0


def test_minilm_reads_its_window_of_a_query_and_of_a_passage(models):
    [short, long] = models.minilm.readings(LONG, [Passage("1", "a moon 🦜"), Passage("2", "moon " * 300)])
    assert (short.query, long.query) == (Reading(254, 700), Reading(254, 700))
    assert (short.read, short.total, long.read, long.total) == (3, 3, 254, 300)
    assert models.minilm.readings("moon", []) == []


def test_mini_reads_more_of_a_query_beside_a_short_passage(models):
    [short, long] = models.mini.readings(LONG, [Passage("1", "a moon"), Passage("2", "moon " * 300)])
    assert (short.query.read, short.query.total) == (509 - 2, 700) and long.query.read < 300
    assert long.read + long.query.read == 509


def test_an_evaluation_counts_what_its_models_do_not_read(models):
    corpus = Corpus(
        CorpusCard(name="long"),
        None,
        (Passage("p0", "moon " * 300), Passage("p1", "a star"), Passage("p2", "a comet")),
        (Query("q0", "which moon"), Query("q1", LONG), Query("q2", "🦜🦜"), Query("q3", "which star")),
        {"test": {"q0": {"p0": 1}, "q1": {"p1": 1}, "q2": {"p2": 1}, "q3": {"p1": 1}}},
    )
    chosen = select_eval_set(corpus)
    found = count_unread(corpus, chosen, models.minilm, "minilm", 256)
    assert found == {"cut_gold:minilm": 1, "cut_queries:minilm": 1, "unread_queries:minilm": 1}

    class Telling(ExactRetriever):
        def readings(self, query, passages):
            return models.minilm.readings(query, passages)

    from rag_inspect.evaluation import evaluate

    *_, outcome = evaluate(corpus, [Telling(corpus)], [ScriptedReranker()], timed=False)
    notes = assess(outcome).notes
    assert "1 gold passage is longer than bag reads; the model did not read its end." in notes
    assert "1 query is longer than bag reads; the model did not read its end." in notes
    assert "1 query has no character that bag knows; its ranking means nothing." in notes
    assert not any("reads" in note for note in assess(run_evaluation(corpus)).notes)

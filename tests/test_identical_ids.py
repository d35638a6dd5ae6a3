"""A query that is a passage of its own corpus is no candidate of itself; passages that tie are said."""

import pytest

from rag_inspect.errors import InputError
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.replay import from_replay
from rag_inspect.evaluation.replay_writer import to_replay
from rag_inspect.options import EvalOptions, SearchOptions
from rag_inspect.pipeline import find_candidates
from rag_inspect.types import Corpus, CorpusCard, Passage, Query
from tests.evaluating import ExactRetriever, ScriptedReranker, run_evaluation

SIDES = {"a": "cat dog fox", "b": "hen cow pig", "c": "bear lynx seal"}
PASSAGES = tuple(
    Passage(f"{name}-{side}", f"{words} {side}") for name, words in SIDES.items() for side in ("pro", "con")
)
QUERIES = tuple(Query(f"{name}-pro", f"{words} pro") for name, words in SIDES.items())
QRELS = {f"{name}-pro": {f"{name}-con": 1} for name in SIDES}


def debates(passages=PASSAGES, queries=QUERIES, qrels=None):
    return Corpus(CorpusCard(name="debates"), None, passages, queries, {"test": qrels or QRELS})


def found(corpus, query, top_k=3, **options):
    return find_candidates(ExactRetriever(corpus), corpus, query, top_k, **options)


def test_a_query_is_no_candidate_of_itself_and_a_note_says_so():
    candidates = found(debates(), "cat dog fox pro")
    assert candidates.ranking.passage_ids[0] == "a-con" and len(candidates) == candidates.top_k == 3
    assert [hit.rank for hit in candidates.ranking] == [1, 2, 3]
    assert candidates.passages.keys() == set(candidates.ranking.passage_ids)
    assert candidates.notes == (
        'Passage "a-pro" is the query itself (it has the same id) and was left out; keep_identical_ids keeps it.',
    )


def test_it_stays_where_asked_for():
    candidates = found(debates(), "cat dog fox pro", keep_identical_ids=True)
    assert candidates.ranking.passage_ids[:2] == ("a-pro", "a-con") and len(candidates) == 3
    assert candidates.notes == ()


def test_a_query_that_nobody_judged_loses_nothing():
    assert found(debates(qrels={"b-pro": {"b-con": 1}}), "cat dog fox pro").ranking.passage_ids[0] == "a-pro"
    assert found(debates(), "cat dog fox").left_out == ""


def test_numbers_that_queries_and_passages_share_mean_nothing_where_one_is_its_own_gold():
    passages = tuple(Passage(str(n), text) for n, text in enumerate(SIDES.values()))
    queries = tuple(Query(str(n), text) for n, text in enumerate(SIDES.values()))
    numbered = debates(passages, queries, {"0": {"0": 1}, "1": {"2": 1}})
    assert found(numbered, "hen cow pig").ranking.passage_ids[0] == "1"


@pytest.mark.parametrize(("keep", "mrr", "notes"), [(False, 1.0, 1), (True, 0.5, 0)])
def test_metrics_leave_it_out_too(keep, mrr, notes):
    """Six passages, so that the query itself is among the candidates at any depth; the run can be kept and reopened."""
    outcome = run_evaluation(debates(), ScriptedReranker(), top_k=20, top_n=5, keep_identical_ids=keep)
    document = assess(from_replay(to_replay(outcome)))
    assert document.systems[0].metrics["mrr@5"].value == mrr
    own = [note for note in document.notes if note.startswith("3 queries were among their own candidates")]
    assert len(own) == notes and not any("were retrieved" in note for note in document.notes)
    run = dict(outcome.run("bag>>fixed"))
    assert all((query_id in ranking.rank_by_id) == keep for query_id, ranking in run.items())


@pytest.mark.parametrize("options", [SearchOptions, EvalOptions])
def test_the_switch_is_a_switch(options):
    asked = {"corpus": "debates"} | ({"query": "q"} if options is SearchOptions else {})
    with pytest.raises(InputError, match="keep_identical_ids is 'no'; expected true or false"):
        options(**asked, keep_identical_ids="no")

"""The engine: what it scores, what it keeps, how it stops."""

import dataclasses
import time

import numpy as np
import pytest

from rag_inspect.errors import CorpusError, InputError, RerankError, RetrievalError
from rag_inspect.evaluation import EvalProgress, evaluate, latency
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.eval_set import select_eval_set
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.passes import PAIRS_AT_ONCE, Pass
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import rank
from rag_inspect.types import Query
from tests.evaluating import ExactRetriever, ScriptedReranker, make_corpus, run_evaluation

SAMPLE = sum(latency.list_timed_depths(10)) * (latency.SAMPLE_QUERIES + 1)
"""Pairs that timing reads where 10 are retrieved."""


@pytest.fixture
def cache(tmp_path):
    cache = ScoreCache(tmp_path / "scores.sqlite")
    yield cache
    cache.close()


def test_every_logit_is_the_one_the_reranker_gave_and_the_order_is_the_pipelines():
    corpus, reranker = make_corpus(30), ScriptedReranker()
    outcome = run_evaluation(corpus, reranker, top_k=12)
    before, after = dict(outcome.run("bag")), dict(outcome.run("bag>>fixed"))
    for query in corpus.queries:
        logits = {
            pid: reranker.score_of(query.text, corpus.passage_by_id[pid])
            for pid in before[query.query_id].passage_ids
        }
        assert after[query.query_id].passage_ids == rank(before[query.query_id], logits).passage_ids
        assert {hit.passage_id: hit.score for hit in after[query.query_id]} == logits


@pytest.mark.parametrize(("share", "noted"), [(0.93, True), (0.9899, True), (0.99, False), (None, False)])
def test_an_index_that_misses_near_passages_is_noted(share, noted, monkeypatch):
    asked = []

    class Lossy(ExactRetriever):
        def audit(self, queries, top_k):
            asked.append((len(queries), top_k))
            return share

    monkeypatch.setattr("rag_inspect.evaluation.AUDITED", 7)
    outcome = run_evaluation(make_corpus(20), first_stages=[Lossy], top_k=6)
    assert asked == [(7, 6)], "every third query"
    assert (
        any("of the 6 nearest passages (exact search over 7 queries)" in note for note in outcome.notes)
        is noted
    )


def test_an_index_that_cannot_be_audited_costs_a_note_and_not_the_run():
    class Gone(ExactRetriever):
        def audit(self, queries, top_k):
            raise RetrievalError("the server is gone")

    outcome = run_evaluation(make_corpus(5), first_stages=[Gone], top_k=6)
    assert "What the index of bag misses is unknown: the server is gone." in outcome.notes


@pytest.mark.parametrize(
    ("splits", "words"),
    [({}, "no qrels"), ({"dev": {"q000": {"p000": 1}}}, 'no split "test"; choose one of dev'), ({"test": {}}, "is empty"),
     ({"test": {"q000": {"p000": 0}}}, "finds no gold")],
)  # fmt: skip
def test_an_eval_set_that_is_none_is_refused_in_words(splits, words):
    with pytest.raises(CorpusError, match=words):
        select_eval_set(make_corpus(5, splits=splits))


def test_a_query_repeated_a_thousand_times_is_read_once_and_said():
    corpus = make_corpus(1, passages=30)
    copies = tuple(Query(f"c{at}", corpus.queries[0].text) for at in range(1000))
    qrels = {query.query_id: corpus.splits["test"]["q000"] for query in copies}
    reranker = ScriptedReranker()
    many = dataclasses.replace(corpus, queries=copies, splits={"test": qrels})
    outcome = run_evaluation(many, reranker, top_k=10)
    assert len(outcome.queries) == 1000 and outcome.counts["repeated"] == 999
    chunks = -(-1000 * 10 // PAIRS_AT_ONCE)
    assert reranker.read <= 10 * (chunks + 2) + SAMPLE
    assert any("999 queries repeat" in note for note in assess(outcome).notes)


def test_progress_counts_up_to_the_end_and_hands_out_every_row_once():
    corpus = make_corpus(70)
    seen = list(evaluate(corpus, [ExactRetriever(corpus)], [ScriptedReranker()], top_k=20))
    steps = [moment for moment in seen if isinstance(moment, EvalProgress)]
    assert [s.pairs_done for s in steps] == sorted(s.pairs_done for s in steps)
    assert steps[-1].pairs_done == steps[-1].pairs == 70 * 20 and steps[-1].queries_done == 70
    assert [row["query_id"] for step in steps for row in step.finished] == [
        query.query_id for query in corpus.queries
    ]
    assert steps[-1].pairs_per_second > 0 and steps[-1].seconds_left == 0
    assert str(steps[-1]) == "70 queries, 1,400 pairs scored; timing fixed, query 20 of 20"
    before = next(step for step in steps if step.queries_done)
    assert str(before).startswith(f"{before.queries_done} / 70 queries, ")
    document = assess(seen[-1])
    means = steps[-1].means["bag>>fixed"]
    assert means == pytest.approx({name: document.systems[1].metrics[name].value for name in means})
    rows = {row["query_id"]: row for step in steps for row in step.finished}
    for row in document.to_json()["per_query"]:
        shown = rows[row["query_id"]]  # ranks and verdicts; a fused system has none before the end
        assert row | shown | {"ranks": row["ranks"] | shown["ranks"]} == row


def test_the_pace_is_that_of_late_and_forgets_a_machine_that_slept():
    corpus = make_corpus(40)
    work = Pass(corpus, select_eval_set(corpus), [ExactRetriever(corpus)], [ScriptedReranker()], None, 10, 5)
    work.record_pace(100, 1000.0)  # asleep in the middle of a batch
    assert work.progress().pairs_per_second == pytest.approx(0.1)
    for _ in range(120):
        work.record_pace(20, 2.0)
    assert work.progress().pairs_per_second > 1.5
    for _ in range(240):
        work.record_pace(20, 2.0)
    assert work.progress().pairs_per_second == pytest.approx(10, rel=0.1)


def test_a_second_run_reads_nothing_but_a_sample_for_the_latency(cache):
    corpus, first, second = make_corpus(40), ScriptedReranker(), ScriptedReranker()
    cold, warm = (
        run_evaluation(corpus, first, cache=cache, top_k=10),
        run_evaluation(corpus, second, cache=cache, top_k=10),
    )
    assert 400 < first.read <= 400 + SAMPLE and second.read <= SAMPLE
    assert (warm.counts["scored_pairs"], warm.counts["cached_pairs"]) == (0, 400)
    assert np.array_equal(cold.stages[0].logits["fixed"], warm.stages[0].logits["fixed"])
    assert cold.latency["bag>>fixed"].source == warm.latency["bag>>fixed"].source == "sample"


def test_latency_grows_with_depth_and_is_never_shown_as_nought():
    class Slow(ScriptedReranker):
        def score_pairs(self, pairs):
            for batch in super().score_pairs(pairs):
                time.sleep(0.001 * len(batch))
                yield batch

    found = run_evaluation(make_corpus(20), Slow(), top_k=10).latency["bag>>fixed"]
    assert found.queries == latency.SAMPLE_QUERIES and len(found.depth_ms) == 10
    assert all(a < b for a, b in zip(found.depth_ms, found.depth_ms[1:], strict=False))
    assert found.depth_ms[-1] >= 10 and found.p95 >= found.p50 >= 10


def test_each_depth_is_timed_as_it_is_and_not_a_share_of_the_deepest():
    class OneBatch(ScriptedReranker):
        """As on a GPU: a forward pass costs the same, whatever is in it."""

        def score_pairs(self, pairs):
            time.sleep(0.02)
            yield from super().score_pairs(pairs)

    outcome = run_evaluation(make_corpus(20), OneBatch(), top_k=10)
    found = outcome.latency["bag>>fixed"]
    assert found.depth_ms[0] > 0.4 * found.depth_ms[-1]  # a share of the deepest would be 0.1 of it
    assert any("timed at depths 1, 3, 5 and 10; between these" in note for note in outcome.notes)
    assert all(a <= b for a, b in zip(found.depth_ms, found.depth_ms[1:], strict=False))


def test_a_sample_leaves_the_first_reading_out_and_has_at_least_three(cache):
    class Warming(ScriptedReranker):
        """The first reading takes half a second, as the first of a real model does."""

        def score_pairs(self, pairs):
            time.sleep(0.5 if not self.read else 0.0)
            yield from super().score_pairs(pairs)

    corpus = make_corpus(20)
    run_evaluation(corpus, ScriptedReranker(), cache=cache, top_k=10)
    found = run_evaluation(corpus, Warming(), cache=cache, top_k=10).latency
    reranked = found["bag>>fixed"]
    assert reranked.source == "sample" and reranked.queries >= latency.LEAST_QUERIES
    assert reranked.p95 < 500
    assert found["bag"].source == "sample" and found["bag"].queries == latency.SAMPLE_QUERIES


def test_a_stop_comes_within_a_batch_and_the_next_run_goes_on(cache):
    corpus, first, second = make_corpus(40), ScriptedReranker(), ScriptedReranker()
    seen = []
    for moment in evaluate(
        corpus,
        [ExactRetriever(corpus)],
        [first],
        cache,
        top_k=10,
        stopped=lambda: bool(seen) and seen[-1].pairs_done >= 80,
    ):
        seen.append(moment)
    assert seen[-1].stopped and not any(isinstance(moment, Outcome) for moment in seen)
    assert first.read <= 96
    run_evaluation(corpus, second, cache=cache, top_k=10)
    assert second.read <= 400 - 80 + SAMPLE


def test_a_stop_while_timing_ends_at_once_and_keeps_the_result(cache):
    corpus, model, other = make_corpus(40), ScriptedReranker(), ScriptedReranker(key="other")
    seen = []

    def stopped():
        return bool(seen) and "fixed, query 2" in getattr(seen[-1], "timing", "")

    for moment in evaluate(
        corpus, [ExactRetriever(corpus)], [model, other], cache, top_k=10, stopped=stopped
    ):
        seen.append(moment)
    outcome = seen[-1]
    assert [moment.timing for moment in seen if getattr(moment, "timing", "")] == [
        "bag", "fixed, warming up", "fixed, query 1 of 20", "fixed, query 2 of 20",
    ]  # fmt: skip
    assert "timing fixed, query 2 of 20" in str(seen[-2]) and "400 pairs" not in str(seen[0])
    assert isinstance(outcome, Outcome) and not np.isnan(outcome.stages[0].logits["other"]).any()
    assert outcome.latency["bag"].source == "sample"
    assert outcome.latency["bag>>fixed"].source == outcome.latency["bag>>other"].source == "unknown"
    said = [note for note in assess(outcome).notes if "latency of" in note]
    assert said == ["Stopped while timing: the latency of fixed, other is unknown."]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("out of memory"), "fixed failed .RuntimeError: out of memory"),
        (float("nan"), "gave nan"),
    ],
)
def test_a_model_that_fails_in_the_middle_says_where_and_loses_nothing(cache, error, words):
    corpus, failing, whole = (
        make_corpus(60),
        ScriptedReranker(fail_after=520, error=error),
        ScriptedReranker(),
    )
    with pytest.raises(
        RerankError, match=rf"{words}.*stopped after 12 of 60 queries, 5\d\d pairs.*next run continues"
    ):
        run_evaluation(corpus, failing, cache=cache, top_k=10)
    run_evaluation(corpus, whole, cache=cache, top_k=10)
    assert whole.read <= 600 - 520 + SAMPLE


def test_a_model_that_fails_while_it_is_timed_costs_its_latency_and_nothing_else():
    corpus = make_corpus(20)
    for failing in (ScriptedReranker(fail_after=200), ScriptedReranker(fail_after=215)):
        outcome = run_evaluation(corpus, failing, top_k=10)
        assert outcome.latency["bag>>fixed"].source == "unknown" and len(outcome.queries) == 20
        notes = assess(outcome).notes
        assert "fixed could not be timed (RuntimeError: out of memory)." in notes
        assert not any("The latency of" in note for note in notes), "said once, with the reason"


def test_a_first_stage_that_fails_says_where_and_that_nothing_is_lost(cache):
    corpus = make_corpus(60)
    retriever = ExactRetriever(corpus)
    search, asked = retriever.search, []

    def failing(queries, top_k):
        asked.extend(queries)
        if len(asked) > 20:
            raise RuntimeError("out of memory")
        return search(queries, top_k)

    retriever.search = failing
    with pytest.raises(
        RetrievalError,
        match=r"bag failed .RuntimeError: out of memory.; stopped after 12 of 60 .*next run continues",
    ):
        list(evaluate(corpus, [retriever], [ScriptedReranker()], cache, top_k=10))


def test_what_is_not_kept_is_not_said_to_be(tmp_path):
    (tmp_path / "scores.sqlite").mkdir()
    broken = ScoreCache(tmp_path / "scores.sqlite")
    with pytest.raises(RerankError, match=r"scores are computed again each time$"):
        run_evaluation(make_corpus(60), ScriptedReranker(fail_after=300), cache=broken, top_k=10)


def test_a_metric_deeper_than_what_was_retrieved_is_named():
    corpus = make_corpus(20)
    notes = assess(run_evaluation(corpus, ScriptedReranker(), top_k=5)).notes
    [found] = [note for note in notes if note.startswith("Only 5 candidates were retrieved: ")]
    assert "nDCG@10" in found and "recall@10" in found and "MRR@5" not in found
    assert not any(
        "were retrieved" in note
        for note in assess(run_evaluation(corpus, ScriptedReranker(), top_k=10)).notes
    )
    whole = make_corpus(20, passages=6)  # of which nothing is left to retrieve
    assert not any(
        "were retrieved" in note for note in assess(run_evaluation(whole, ScriptedReranker(), top_k=6)).notes
    )


def test_depths_are_checked_before_anything_is_read():
    reranker = ScriptedReranker()
    with pytest.raises(InputError, match=r"top_n cannot exceed top_k \(5 > 3\)"):
        run_evaluation(make_corpus(3), reranker, top_k=3)
    assert reranker.read == 0


def test_memory_is_flat_in_the_number_of_queries():
    import tracemalloc

    def peak(queries):
        corpus = make_corpus(queries, passages=60)
        retriever = ExactRetriever(corpus)
        tracemalloc.start()
        for _ in evaluate(corpus, [retriever], [ScriptedReranker(batch=64)], top_k=20):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(30)
    assert (peak(500) - peak(100)) / 400 < 3000  # bytes a query: its arrays, and no more

"""What scoring takes, and what is kept of it: the time of the model alone, and later the time that it once took."""

import pytest

from rag_inspect import pipeline
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import score_pairs
from rag_inspect.types import Candidates, Passage, Query, Ranking
from tests.fixed_reranker import FixedReranker
from tests.searches import DENSE

PAIRS = [("query", Passage(f"p{n}", f"text {n}")) for n in range(6)]


class Clock:
    """Stands still unless something takes time on it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TimedReranker(FixedReranker):
    """Takes an hour to warm up, then 2 s for each batch, of which the first half passes in an empty one."""

    def __init__(self, clock: Clock, batch: int = 4) -> None:
        super().__init__(batch=batch)
        self.clock, self.warm = clock, False

    def warm_up(self, on_progress=None) -> None:
        self.clock.now += 0 if self.warm else 3600
        self.warm = True

    def score_pairs(self, pairs):
        assert self.warm
        for batch in super().score_pairs(pairs):
            self.clock.now += 1
            yield {}
            self.clock.now += 1
            yield batch


@pytest.fixture
def cache(settings):
    return ScoreCache(settings.home / "scores.sqlite")


@pytest.fixture
def clock():
    return Clock()


def score(clock, cache, pairs=PAIRS, batch=4):
    """Score by a caller who takes a minute over each batch."""
    for scored in score_pairs(TimedReranker(clock, batch), pairs, cache, clock=clock):
        clock.now += 60
        yield scored


def test_a_batch_takes_what_it_is_waited_for_and_nothing_else(clock, cache):
    found = list(score(clock, cache))
    assert [(len(scored.scores), scored.ms, scored.cached) for scored in found] == [
        (0, 1000.0, False),
        (4, 1000.0, False),
        (0, 1000.0, False),
        (2, 1000.0, False),
    ]
    costs = [known.ms for known in cache.get(FixedReranker().fingerprint, PAIRS).values()]
    assert sorted(costs) == [500.0] * 4 + [1000.0] * 2  # the empty batches included


def test_what_is_cached_says_what_it_took(clock, cache):
    took = sum(scored.ms for scored in score(clock, cache))
    [again] = score(clock, cache)
    assert (again.cached, len(again.scores), again.ms) == (True, 6, took) and took == 4000.0
    [some] = score(clock, cache, PAIRS[3:5])
    assert some.ms == 500.0 + 1000.0


def test_one_pair_of_unknown_cost_makes_all_of_them_unknown(clock, cache):
    cache.put(FixedReranker().fingerprint, [(PAIRS[0], 1.0)])
    first, *_ = score(clock, cache)
    assert (first.cached, len(first.scores), first.ms) == (True, 1, None)
    [again] = score(clock, cache)
    assert (len(again.scores), again.ms) == (6, None)
    [known] = score(clock, cache, PAIRS[1:])
    assert known.ms == 4000.0


def test_equal_passages_are_read_once_and_cost_once(clock, cache):
    twins = [("query", Passage(f"p{n}", "the same text")) for n in range(6)]
    took = sum(scored.ms for scored in score(clock, cache, twins))
    [again] = score(clock, cache, twins)
    assert len(again.scores) == 6 and again.ms == took == 2000.0


def test_an_old_score_that_is_scored_again_costs_what_it_costs_now(clock, cache):
    list(score(clock, cache))
    cache.put(FixedReranker().fingerprint, [(PAIRS[5], 1.0)], 7.0)
    [again] = score(clock, cache)
    assert again.ms == 4 * 500.0 + 1000.0 + 7.0


def make_candidates(count):
    passages = {f"p{n}": Passage(f"p{n}", f"text {n}") for n in range(count)}
    ranking = Ranking.of([(passage_id, 0.5) for passage_id in passages])
    return Candidates(
        query=Query("", "query"), first_stage=DENSE, top_k=count, ranking=ranking, passages=passages
    )


def test_a_reranking_says_what_its_cached_pairs_took(cache):
    candidates = make_candidates(6)
    first, *_, live = pipeline.rerank(candidates, FixedReranker(), cache)
    assert (first.cached_ms, live.cached_ms, live.scored_pairs) == (0.0, 0.0, 6)
    *_, again = pipeline.rerank(candidates, FixedReranker(), cache)
    stored = cache.get(FixedReranker().fingerprint, candidates.pairs).values()
    assert again.cached_pairs == 6 and again.cached_ms == pytest.approx(sum(known.ms for known in stored))
    assert again.timings_ms["total"] == pytest.approx(again.timings_ms["rerank"])  # it is no part of them
    *_, mixed = pipeline.rerank(make_candidates(7), FixedReranker(), cache)
    assert (mixed.cached_pairs, mixed.scored_pairs) == (6, 1) and mixed.cached_ms == again.cached_ms

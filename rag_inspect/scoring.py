"""Score pairs through the cache, and sort by score. Only this module sorts a reranker's scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_inspect.errors import RerankError
from rag_inspect.score_cache import Known, ScoreCache
from rag_inspect.types import Pair, Ranking, Reranker


@dataclass(frozen=True)
class Scored:
    """A batch of scores by the pair's place; `cached` tells whether they came from the cache.

    `ms` is how long the model took for them; of cached ones, how long it took when they were scored, or None if that
    is unknown for one of them.
    """

    scores: Mapping[int, float]
    cached: bool
    ms: float | None


def score_pairs(
    reranker: Reranker,
    pairs: Sequence[Pair],
    cache: ScoreCache | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Scored]:
    """Yield the scores of all pairs: first those in the cache, then the model's, batch by batch.

    The model reads equal pairs once. Each batch is in the cache before it is yielded; closing the iterator stops
    the work. Raises RerankError, which names the model, at a score that is not finite.

    A batch's time is the wait for it, on a `clock` of seconds; the model is loaded and warm by then. What it computes
    while the caller uses the batch before is not counted. The cache keeps an equal share of that time for each pair of
    the batch, whatever its length. An evaluation's batches hold pairs of many queries, so there the shares of one
    query add up to its part of the whole, not to what it would take alone.
    """
    known = cache.get(reranker.fingerprint, pairs) if cache else {}
    if known:
        yield _make_cached(known, pairs)
    places: dict[tuple[str, str], list[int]] = {}
    for place, (query, passage) in enumerate(pairs):
        if place not in known:
            places.setdefault((query, passage.full_text), []).append(place)
    groups = list(places.values())
    todo = [pairs[group[0]] for group in groups]
    if not todo:
        return
    reranker.warm_up()
    waited = 0.0
    for batch, ms in _time_batches(reranker.score_pairs(todo), clock):
        waited += ms  # a slow batch comes after empty ones, which are part of its time
        scored = [(todo[at], score) for at, score in batch.items()]
        _check_finite(reranker, scored)
        if cache and scored:
            cache.put(reranker.fingerprint, scored, batch_ms=waited)
        waited = 0.0 if scored else waited
        yield Scored({place: score for at, score in batch.items() for place in groups[at]}, False, ms)


def _time_batches(
    batches: Iterator[dict[int, float]], clock: Callable[[], float]
) -> Iterator[tuple[dict[int, float], float]]:
    """Yield each batch and the milliseconds that it was waited for."""
    began = clock()
    for batch in batches:
        yield batch, (clock() - began) * 1000
        began = clock()


def _check_finite(reranker: Reranker, scored: Sequence[tuple[Pair, float]]) -> None:
    for (_, passage), score in scored:
        if not math.isfinite(score):
            raise RerankError(
                f"{reranker.spec.key} ({reranker.spec.model}) gave {score} for passage "
                f'"{passage.passage_id}"; expected a finite score, so try another reranker'
            )


def _make_cached(known: Mapping[int, Known], pairs: Sequence[Pair]) -> Scored:
    """Make a batch of the known scores. Equal pairs were read once, so their time counts once."""
    once = {(pairs[place][0], pairs[place][1].full_text): each.ms for place, each in known.items()}
    costs = [ms for ms in once.values() if ms is not None]
    ms = math.fsum(costs) if len(costs) == len(once) else None
    return Scored({place: each.score for place, each in known.items()}, True, ms)


def lacks_scores(reranker: Reranker, pairs: Sequence[Pair], cache: ScoreCache | None = None) -> bool:
    """Return True if the cache lacks a score for any of these pairs, so that the model must read it."""
    return len(cache.get(reranker.fingerprint, pairs) if cache else ()) < len(pairs)


def rank(candidates: Ranking, scores: Mapping[str, float]) -> Ranking:
    """Sort the candidates that have a score, best first; equal scores keep the first stage's order.

    Raises RerankError at a score that is not finite.
    """
    scored = [hit.passage_id for hit in candidates if hit.passage_id in scores]
    for passage_id in scored:
        if not math.isfinite(scores[passage_id]):
            raise RerankError(
                f'passage "{passage_id}" has the score {scores[passage_id]}; expected a finite number'
            )
    ordered = sorted(scored, key=lambda passage_id: -scores[passage_id])
    return Ranking.of([(passage_id, scores[passage_id]) for passage_id in ordered])


def order_columns(scores: np.ndarray, depth: int | None = None) -> np.ndarray:
    """Return each row's column numbers by descending score: int, of the shape of `scores`, (n, K).

    Equal scores keep the first stage's order. So do the columns from `depth` on, which come after the others.
    NaN marks the places past the end of a ranking; they come last.
    """
    falling = np.where(np.isnan(scores), np.inf, -scores)
    if depth is not None:
        falling = np.where(np.arange(scores.shape[-1]) < depth, falling, np.inf)
    return np.argsort(falling, axis=-1, kind="stable")

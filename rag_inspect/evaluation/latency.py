"""Measure the latency of a query: time a few queries one at a time, as users send them, without any cache."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from rag_inspect.evaluation.systems import P95_QUERIES, Latency
from rag_inspect.types import Passage, Query, Reranker, Retriever

SAMPLE_QUERIES, LEAST_QUERIES = P95_QUERIES, 4  # without the warm-up, which is not counted
SAMPLE_SECONDS = 8.0  # after this time a sample ends, once LEAST_QUERIES are measured
MAX_NOTE = 500  # characters of a note about a failure
_STOPPED, _FAILED = "Stopped while timing:", "could not be timed"

T = TypeVar("T")


def note_stop(keys: Sequence[str]) -> str:
    """Write the note of a run that was stopped before these models were timed."""
    return f"{_STOPPED} the latency of {', '.join(keys)} is unknown."


def note_failure(key: str, error: Exception) -> str:
    """Write the note of a run in which this model failed while it was timed."""
    return f"{key} {_FAILED} ({type(error).__name__}: {error})."[:MAX_NOTE]


def is_explained(models: Sequence[str | None], notes: Sequence[str]) -> bool:
    """Return True if a note of the run says why the latency of a system of these models is unknown."""
    return any(note.startswith((_STOPPED, *(f"{key} {_FAILED}" for key in models))) for note in notes)


def measure_first_stage(
    retriever: Retriever, queries: Sequence[Query], depth: int
) -> tuple[np.ndarray, list[list[Passage]]]:
    """Return (ms per query, passages found). Queries run one at a time; the first runs twice, to warm up."""
    times, found = [], []
    for query in [queries[0], *queries]:
        began = time.perf_counter()
        # Some first stages cache queries, so make each text new.
        [candidates] = retriever.search([replace(query, text=f"{query.text} {began}")], depth)
        times.append((time.perf_counter() - began) * 1000)
        found.append(candidates.in_order)
    return np.array(times[1:]), found[1:]


def sample_first_stage(retriever: Retriever, queries: Sequence[Query], depth: int) -> Latency:
    """Time the first stage on up to SAMPLE_QUERIES of the queries. Its latency is the same at every depth."""
    times, _ = measure_first_stage(retriever, sample_evenly(queries, SAMPLE_QUERIES), depth)
    median = float(np.median(times))
    return Latency((median,), median, take_p95(times), len(times), "sample")


def take_p95(times: Sequence[float] | np.ndarray) -> float | None:
    """Return the 95th percentile; None of fewer than P95_QUERIES."""
    return float(np.percentile(times, 95)) if len(times) >= P95_QUERIES else None


def sample_evenly(things: Sequence[T], count: int) -> list[T]:
    """Return `count` evenly spaced things, or all if there are fewer."""
    return [things[row] for row in sorted({int(row) for row in np.linspace(0, len(things) - 1, count)})]


def list_timed_depths(depth: int) -> list[int]:
    """List the depths at which a reranker is timed: 1, a quarter, a half and the full depth."""
    return sorted({1, math.ceil(depth / 4), math.ceil(depth / 2), depth})


def measure_reranker(
    retriever: Retriever,
    reranker: Reranker,
    queries: Sequence[Query],
    depth: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[str, None, Latency]:
    """Time a reranker, without the first stage, on the candidates of up to SAMPLE_QUERIES of the queries.

    Yields which query is next, in words. If stopped, the latency is unknown. Each query runs at every depth of
    `list_timed_depths`; between these, the median is interpolated. Queries with fewer than `depth` candidates count
    only if no query has that many.
    """
    chosen, depths = sample_evenly(queries, SAMPLE_QUERIES), list_timed_depths(depth)
    began, full, short = time.perf_counter(), list[list[float]](), list[list[float]]()
    for number, query in enumerate([chosen[0], *chosen]):
        yield f"query {number} of {len(chosen)}" if number else "warming up"
        passages = retriever.search([query], depth)[0].in_order
        row = []
        for some in depths if number else depths[:2]:  # the first query warms up
            start = time.perf_counter()
            for _ in reranker.score_pairs([(query.text, passage) for passage in passages[:some]]):
                if stopped():
                    return Latency()
            row.append(1000 * (time.perf_counter() - start))
        if number and passages:
            (full if len(passages) == depth else short).append(row)
        if len(full) >= LEAST_QUERIES and time.perf_counter() - began > SAMPLE_SECONDS:
            break
    return _summarise(np.array(full or short), depths)


def _summarise(times: np.ndarray, depths: Sequence[int]) -> Latency:
    """Summarise ms of shape (queries, depths)."""
    if not times.size:
        return Latency()
    # More pairs never take less time, but noise can make it look so.
    medians = np.maximum.accumulate(np.median(times, axis=0))
    steps = np.interp(np.arange(1, depths[-1] + 1), depths, medians)
    p95 = take_p95(times[:, -1])
    most = None if p95 is None else max(p95, steps[-1])
    return Latency(tuple(map(float, steps)), float(steps[-1]), most, len(times), "sample")

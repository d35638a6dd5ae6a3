"""Measure the latency of a query: time a few queries one at a time, as users send them, without any cache."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence

import numpy as np

from rag_inspect.evaluation.outcome import Latency
from rag_inspect.types import Passage, Query, Reranker, Retriever

SAMPLE_QUERIES, LEAST_QUERIES = 12, 4  # without the warm-up, which is not counted
SAMPLE_SECONDS = 8.0  # after this time a sample ends, once LEAST_QUERIES are measured
FIRST_STAGE_QUERIES = 12


def measure_first_stage(
    retriever: Retriever, texts: Sequence[str], depth: int
) -> tuple[np.ndarray, list[list[Passage]]]:
    """Return (ms per query, passages found). Queries run one at a time; the first runs twice, to warm up."""
    times, found = [], []
    for text in [texts[0], *texts]:
        began = time.perf_counter()
        # Some first stages cache queries, so make each text new.
        [candidates] = retriever.search([Query("", f"{text} {began}")], depth)
        times.append((time.perf_counter() - began) * 1000)
        found.append(candidates.in_order)
    return np.array(times[1:]), found[1:]


def sample_first_stage(retriever: Retriever, texts: Sequence[str], depth: int) -> Latency:
    """Time the first stage on up to FIRST_STAGE_QUERIES of the texts. Its latency is the same at every depth."""
    times, _ = measure_first_stage(retriever, sample_evenly(texts, FIRST_STAGE_QUERIES), depth)
    p50, p95 = map(float, np.percentile(times, [50, 95]))
    return Latency((float(times.mean()),), p50, p95, len(times), "sample")


def sample_evenly(texts: Sequence[str], count: int) -> list[str]:
    """Return `count` evenly spaced texts, or all if there are fewer."""
    return [texts[row] for row in sorted({int(row) for row in np.linspace(0, len(texts) - 1, count)})]


def list_timed_depths(depth: int) -> list[int]:
    """List the depths at which a reranker is timed: 1, a quarter, a half and the full depth."""
    return sorted({1, math.ceil(depth / 4), math.ceil(depth / 2), depth})


def measure_live(
    retriever: Retriever,
    reranker: Reranker,
    texts: Sequence[str],
    depth: int,
    first_stage_ms: float,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[str, None, Latency]:
    """Time a reranker on up to SAMPLE_QUERIES of the texts; if stopped, the latency is unknown.

    Yields which query is next, in words. Each query runs at every depth of `list_timed_depths`; between these, the mean is interpolated.
    """
    chosen, depths = sample_evenly(texts, SAMPLE_QUERIES), list_timed_depths(depth)
    began, measured = time.perf_counter(), []  # one row per query: ms at each depth
    for number, text in enumerate([chosen[0], *chosen]):
        yield f"query {number} of {len(chosen)}" if number else "warming up"
        passages = retriever.search([Query("", text)], depth)[0].in_order
        row = []
        for some in depths if number else depths[:2]:  # the first query warms up
            start = time.perf_counter()
            for _ in reranker.score_pairs([(text, passage) for passage in passages[:some]]):
                if stopped():
                    return Latency()
            row.append(1000 * (time.perf_counter() - start))
        if number and len(passages) == depth:
            measured.append(row)
        if len(measured) >= LEAST_QUERIES and time.perf_counter() - began > SAMPLE_SECONDS:
            break
    times = np.array(measured)
    if not times.size:
        return Latency()
    p50, p95 = (float(value) for value in np.percentile(first_stage_ms + times[:, -1], [50, 95]))
    # More pairs never take less time, but noise can make it look so.
    means = np.maximum.accumulate(times.mean(axis=0))
    steps = first_stage_ms + np.interp(np.arange(1, depth + 1), depths, means)
    return Latency(tuple(map(float, steps)), p50, p95, len(times), "sample")

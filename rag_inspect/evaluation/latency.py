"""What a query costs: a few, evenly spread, put through a system one at a time, as a user's would be, past every cache."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from rag_inspect.evaluation.outcome import Latency
from rag_inspect.types import Passage, Query, Reranker, Retriever

SAMPLE_QUERIES, LEAST_QUERIES = 12, 4  # beside the first reading, which warms up and is not counted
SAMPLE_SECONDS = 8.0  # after which no further query of a sample is begun, once the least are measured
FIRST_STAGE_QUERIES = 12


def measure_first_stage(
    retriever: Retriever, texts: Sequence[str], depth: int
) -> tuple[np.ndarray, list[list[Passage]]]:
    """(ms of each, passages found): one query at a time; the first is asked twice, to warm up."""
    times, found = [], []
    for text in [texts[0], *texts]:
        began = time.perf_counter()
        # An ending that no first stage has seen: some remember queries.
        [candidates] = retriever.search([Query("", f"{text} {began}")], depth)
        times.append((time.perf_counter() - began) * 1000)
        found.append(candidates.in_order)
    return np.array(times[1:]), found[1:]


def first_stage_latency(retriever: Retriever, texts: Sequence[str], depth: int) -> Latency:
    """The first stage's latency on up to FIRST_STAGE_QUERIES of the texts; it does not grow with depth."""
    times, _ = measure_first_stage(retriever, spread(texts, FIRST_STAGE_QUERIES), depth)
    p50, p95 = map(float, np.percentile(times, [50, 95]))
    return Latency((float(times.mean()),), p50, p95, len(times), "sample")


def spread(texts: Sequence[str], count: int) -> list[str]:
    """So many of the texts, or all of them, evenly spread."""
    return [texts[row] for row in sorted({int(row) for row in np.linspace(0, len(texts) - 1, count)})]


def depths_timed(depth: int) -> list[int]:
    """Where a reranker is timed: at 1, a quarter, a half and the whole of the depth."""
    return sorted({1, math.ceil(depth / 4), math.ceil(depth / 2), depth})


def measure_live(
    retriever: Retriever,
    reranker: Reranker,
    texts: Sequence[str],
    depth: int,
    first_stage_ms: float,
    stopped: Callable[[], bool] = lambda: False,
) -> Latency:
    """A reranker's latency on up to SAMPLE_QUERIES of the texts; unknown where it was stopped.

    Each query is read at every one of `depths_timed`; between these, the mean is interpolated.
    """
    chosen, depths = spread(texts, SAMPLE_QUERIES), depths_timed(depth)
    began, measured = time.perf_counter(), []  # ms at each depth, a row a query
    for number, text in enumerate([chosen[0], *chosen]):
        passages = retriever.search([Query("", text)], depth)[0].in_order
        row = []
        for some in depths if number else depths[:2]:  # the first warms up
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
    # Noise may make a deeper one look quicker; more pairs never are.
    means = np.maximum.accumulate(times.mean(axis=0))
    steps = first_stage_ms + np.interp(np.arange(1, depth + 1), depths, means)
    return Latency(tuple(map(float, steps)), p50, p95, len(times), "sample")

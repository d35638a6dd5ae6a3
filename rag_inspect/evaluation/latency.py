"""What reading a pair costs, from the batches a run measured; a few queries timed apart where it measured none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from rag_inspect.evaluation.outcome import Latency
from rag_inspect.retrieval import ChromaRetriever
from rag_inspect.types import Passage, Reranker

ENOUGH_QUERIES = 5  # measured whole, for a median that is worth showing
SAMPLE_QUERIES, LEAST_QUERIES = 6, 4  # of a sample; the first warms up and is not counted
SAMPLE_SECONDS = 3.0  # after which no further query of a sample is begun, once the least are measured
FIRST_STAGE_QUERIES = 12


class Costs:
    """Milliseconds of each (query, candidate) that a model read, NaN for what came from the cache."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.ms = np.full(shape, np.nan)

    def share(self, cells: Sequence[tuple[int, int]], lengths: Sequence[int], seconds: float) -> None:
        """What reading these cells took together, shared by their lengths in characters.

        Batches are of like length and may be under way at once, so only the whole has a time of its own.
        """
        total = sum(lengths)
        for cell, length in zip(cells, lengths, strict=True):
            self.ms[cell] = seconds * 1000 * length / total

    @property
    def whole(self) -> np.ndarray:
        """Which queries were measured at every depth, bool of shape (n,)."""
        return np.asarray(~np.isnan(self.ms).any(axis=1))

    @property
    def enough(self) -> bool:
        return int(self.whole.sum()) >= min(ENOUGH_QUERIES, self.shape[0])

    def latency(self, first_stage_ms: float, source: Literal["batches", "sample"]) -> Latency:
        """The cost of one query at every depth: the first stage's mean, and the mean of each candidate before it."""
        whole = self.whole
        if not whole.any():
            return Latency()
        measured = self.ms[whole]
        totals = first_stage_ms + measured.sum(axis=1)
        p50, p95 = (float(value) for value in np.percentile(totals, [50, 95]))
        depths = first_stage_ms + np.cumsum(measured.mean(axis=0))
        return Latency(tuple(map(float, depths)), p50, p95, int(whole.sum()), source)


def length(pair: tuple[str, Passage], reranker: Reranker) -> int:
    """Characters of a pair, as far as the model can read them (a token has four or so)."""
    return min(len(pair[0]) + len(pair[1].full_text), 4 * reranker.spec.max_tokens) + 1


def measure_first_stage(
    retriever: ChromaRetriever, texts: Sequence[str], depth: int
) -> tuple[np.ndarray, list[list[Passage]]]:
    """(ms of each, passages found): embed and retrieve one query at a time; the first is asked twice, to warm up."""
    times, found = [], []
    for text in [texts[0], *texts]:
        began = time.perf_counter()
        # An ending the embedder has not seen: it remembers queries.
        [(_, passages)] = retriever.retrieve(retriever.embedder.embed_queries([f"{text} {began}"]), depth)
        times.append((time.perf_counter() - began) * 1000)
        found.append(passages)
    return np.array(times[1:]), found[1:]


def spread(texts: Sequence[str], count: int) -> list[str]:
    """So many of the texts, or all of them, evenly spread."""
    return [texts[row] for row in sorted({int(row) for row in np.linspace(0, len(texts) - 1, count)})]


def measure_live(
    retriever: ChromaRetriever,
    reranker: Reranker,
    texts: Sequence[str],
    shape: tuple[int, ...],
    stopped: Callable[[], bool] = lambda: False,
) -> Costs:
    """Up to SAMPLE_QUERIES queries, evenly spread, read by the model without the cache; the first warms it up."""
    chosen = spread(texts, SAMPLE_QUERIES)
    costs, began = Costs((len(chosen), *shape[1:])), time.perf_counter()
    for row, text in enumerate([chosen[0], *chosen][:SAMPLE_QUERIES]):
        [(_, passages)] = retriever.retrieve(retriever.embedder.embed_queries([text]), shape[1])
        start, pairs = time.perf_counter(), [(text, passage) for passage in passages]
        for _ in reranker.score_pairs(pairs):
            if stopped():
                return Costs(shape)
        if row:
            cells = [(row - 1, column) for column in range(len(pairs))]
            costs.share(cells, [length(pair, reranker) for pair in pairs], time.perf_counter() - start)
        if row + 1 >= LEAST_QUERIES and time.perf_counter() - began > SAMPLE_SECONDS:
            break
    return costs

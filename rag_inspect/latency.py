"""What reading a pair costs, from the batches a run measured; a few queries timed apart where it measured none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from rag_inspect.outcome import Latency
from rag_inspect.retrieval import ChromaRetriever
from rag_inspect.types import Reranker

ENOUGH_QUERIES = 5  # measured whole, for a median that is worth showing
SAMPLE_QUERIES = 5
SAMPLE_SECONDS = 1.5  # after which no further query of a sample is begun


class Costs:
    """Milliseconds of each (query, candidate) that a model read, NaN for what came from the cache.

    A batch's time is shared evenly by its pairs, which are of like length. The first batch of a chunk also
    bears the tokenising of the whole chunk: what it took beyond the second one's pace is spread over the chunk.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.ms = np.full(shape, np.nan)
        self._chunk: list[tuple[list[tuple[int, int]], float]] = []

    def add(self, cells: list[tuple[int, int]], ms_each: float) -> None:
        """One batch: the cells it filled, and what each of them took."""
        self._chunk.append((cells, ms_each))

    def end_of_chunk(self) -> None:
        """Settle the batches since the last one."""
        if len(self._chunk) > 1:
            (cells, first), (_, second) = self._chunk[:2]
            surplus = max(0.0, first - second) * len(cells)
            share = surplus / sum(len(batch) for batch, _ in self._chunk)
            self._chunk[0] = cells, min(first, second)
            self._chunk = [(batch, ms + share) for batch, ms in self._chunk]
        for cells, ms in self._chunk:
            for cell in cells:
                self.ms[cell] = ms
        self._chunk = []

    @property
    def whole(self) -> np.ndarray:
        """Which queries were measured at every depth, bool of shape (n,)."""
        return np.asarray(~np.isnan(self.ms).any(axis=1))

    @property
    def enough(self) -> bool:
        return int(self.whole.sum()) >= min(ENOUGH_QUERIES, self.shape[0])

    def latency(self, first_stage_ms: np.ndarray, source: Literal["batches", "sample"]) -> Latency:
        """The cost of one query at every depth: the first stage's mean, and the mean of each candidate before it."""
        whole = self.whole
        if not whole.any():
            return Latency()
        measured = self.ms[whole]
        first = float(first_stage_ms.mean())
        totals = first + measured.sum(axis=1)
        p50, p95 = (float(value) for value in np.percentile(totals, [50, 95]))
        depths = first + np.cumsum(measured.mean(axis=0))
        return Latency(tuple(map(float, depths)), p50, p95, int(whole.sum()), source)


def measure_live(
    retriever: ChromaRetriever,
    reranker: Reranker,
    texts: Sequence[str],
    shape: tuple[int, ...],
    stopped: Callable[[], bool] = lambda: False,
) -> Costs:
    """Up to SAMPLE_QUERIES queries, evenly spread, read by the model without the cache; one at the least."""
    costs, began = Costs(shape), time.perf_counter()
    rows = sorted({int(row) for row in np.linspace(0, len(texts) - 1, SAMPLE_QUERIES)})
    for row in rows:
        vectors = retriever.embedder.embed_queries([texts[row]])
        [(_, passages)] = retriever.retrieve(vectors, shape[1])
        last = time.perf_counter()
        for batch in reranker.score_pairs([(texts[row], passage) for passage in passages]):
            now = time.perf_counter()
            costs.add([(row, column) for column in batch], (now - last) * 1000 / len(batch))
            last = now
            if stopped():
                return Costs(shape)
        costs.end_of_chunk()
        if time.perf_counter() - began > SAMPLE_SECONDS:
            break
    return costs

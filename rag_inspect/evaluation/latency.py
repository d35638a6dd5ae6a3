"""What a query costs: a few, evenly spread, put through a system one at a time, as a user's would be, past every cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from rag_inspect.evaluation.outcome import Latency
from rag_inspect.retrieval import ChromaRetriever
from rag_inspect.types import Passage, Reranker

SAMPLE_QUERIES, LEAST_QUERIES = 12, 4  # beside the first reading, which warms up and is not counted
SAMPLE_SECONDS = 5.0  # after which no further query of a sample is begun, once the least are measured
FIRST_STAGE_QUERIES = 12


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
    depth: int,
    first_stage_ms: float,
    stopped: Callable[[], bool] = lambda: False,
) -> Latency:
    """A reranker's latency on up to SAMPLE_QUERIES of the texts; unknown where it was stopped.

    A query's candidates are read together; what each took is its share by length, so that depth d costs the first
    stage's mean and the mean of each of the first d.
    """
    chosen = spread(texts, SAMPLE_QUERIES)
    began, measured = time.perf_counter(), []
    for text in [chosen[0], *chosen]:
        [(_, passages)] = retriever.retrieve(retriever.embedder.embed_queries([text]), depth)
        start, pairs = time.perf_counter(), [(text, passage) for passage in passages]
        for _ in reranker.score_pairs(pairs):
            if stopped():
                return Latency()
        taken, lengths = time.perf_counter() - start, np.array([length(pair, reranker) for pair in pairs])
        measured.append(1000 * taken * lengths / lengths.sum())
        if len(measured) > LEAST_QUERIES and time.perf_counter() - began > SAMPLE_SECONDS:
            break
    whole = np.array([row for row in measured[1:] if len(row) == depth])
    if not whole.size:
        return Latency()
    p50, p95 = (float(value) for value in np.percentile(first_stage_ms + whole.sum(axis=1), [50, 95]))
    depths = first_stage_ms + np.cumsum(whole.mean(axis=0))
    return Latency(tuple(map(float, depths)), p50, p95, len(whole), "sample")

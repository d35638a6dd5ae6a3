"""Measure what each model costs on this machine at each depth, on a local corpus and without the score cache."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rag_inspect.errors import ModelError, RerankError
from rag_inspect.evaluation.latency import measure_first_stage, take_p95
from rag_inspect.evaluation.machine import describe_machine
from rag_inspect.store import Lease
from rag_inspect.tasks import Stage
from rag_inspect.transformer import choose_device
from rag_inspect.types import Availability, Corpus, ModelSpec, Passage, Query, Reranker, Retriever

DEPTHS = (5, 10, 20, 50)
QUERIES = 5
SECONDS = 20.0  # limit for one model, but each depth is measured at least once


def measure(
    corpus: Corpus,
    models: Iterable[tuple[ModelSpec, Availability]],
    keys: Sequence[str] = (),
    *,
    open_retriever: Callable[[Corpus], Lease[Retriever]],
    open_reranker: Callable[[str], Lease[Reranker]],
    device: str = "auto",
) -> Iterator[Stage | dict[str, Any]]:
    """Yield stages, then the document of `bench --json`: ms per query for each reranker and depth.

    `keys` are rerankers among the `models`; without keys, all that are on disk are measured. Nothing is downloaded
    then. `left_out` lists the others. Only one reranker is open at a time. Raises ModelError or RerankError.
    """
    here = {spec.key: found for spec, found in models if spec.kind == "reranker"}
    keys = _choose(keys, here)
    yield Stage(0, len(keys), "loading the first stage")
    queries = corpus.queries[:QUERIES] or [Query("", p.text[:100]) for p in corpus.passages[:QUERIES]]
    texts = [query.text for query in queries]
    with open_retriever(corpus) as index:
        retriever = index.value()
        times, found = measure_first_stage(retriever, queries, max(DEPTHS))
    stage = retriever.first_stage
    revision = stage.embedder.revision if stage.embedder else ""
    first = {"key": stage.key, "revision": revision, **_summarise(times)}
    measured, machine = [], describe_machine(str(choose_device(device)))
    for done, key in enumerate(keys):
        yield Stage(done, len(keys), f"rerankers measured; measuring {key}")
        measured.append(_measure_reranker(key, open_reranker, texts, found))
    yield {
        "machine": {"processors": os.cpu_count(), "platform": platform.platform(), **machine.to_json()},
        "corpus": corpus.name,
        "first_stage": first,
        "rerankers": measured,
        "left_out": [{"key": key, "reason": f.reason or ("not asked for" if f.available else "not downloaded")} for key, f in here.items() if key not in keys],
    }  # fmt: skip


def _choose(keys: Sequence[str], here: Mapping[str, Availability]) -> list[str]:
    """Return these rerankers without repeats, or those on disk if there are none. Raises ModelError if one is unknown."""
    for key in keys:
        if key not in here:
            raise ModelError(f'unknown reranker "{key[:80]}"; choose one of {", ".join(here)}')
    return list(dict.fromkeys(keys)) or [key for key, found in here.items() if found.on_disk]


def _measure_reranker(
    key: str,
    open_reranker: Callable[[str], Lease[Reranker]],
    texts: Sequence[str],
    found: Sequence[Sequence[Passage]],
) -> dict[str, Any]:
    began = time.perf_counter()
    with open_reranker(key) as model:
        reranker = model.value()
        reranker.warm_up()
        loaded = (time.perf_counter() - began) * 1000
        try:
            depths = _time_depths(reranker, texts, found)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise RerankError(f"{key} failed while it was timed ({cause})") from error
    spec = reranker.spec
    return {"key": key, "model": spec.model, "revision": spec.revision, "load_ms": loaded, "depths": depths}


def _time_depths(
    reranker: Reranker, texts: Sequence[str], found: Sequence[Sequence[Passage]]
) -> list[dict[str, Any]]:
    """Time one query after another at every depth, until SECONDS have passed."""
    times: dict[int, list[float]] = {}
    end = time.perf_counter() + SECONDS
    for text, passages in zip(texts, found, strict=True):
        for depth in dict.fromkeys(min(depth, len(passages)) for depth in DEPTHS):
            began = time.perf_counter()
            reranker.score(text, passages[:depth])
            times.setdefault(depth, []).append((time.perf_counter() - began) * 1000)
        if time.perf_counter() > end:
            break
    return [
        {"depth": depth, **_summarise(spent), "pairs_per_second": depth * len(spent) * 1000 / sum(spent)}
        for depth, spent in times.items()
    ]


def _summarise(times: Sequence[float] | np.ndarray) -> dict[str, Any]:
    return {"p50_ms": float(np.median(times)), "p95_ms": take_p95(times), "runs": len(times)}

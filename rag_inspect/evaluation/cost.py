"""What each model costs on this machine at each depth: measured on a corpus that is here, never from the cache."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rag_inspect.errors import ModelError, RerankError
from rag_inspect.evaluation.latency import measure_first_stage
from rag_inspect.tasks import Lease, Stage
from rag_inspect.transformer import choose_device
from rag_inspect.types import Availability, Corpus, ModelSpec, Passage, Reranker, Retriever

DEPTHS = (5, 10, 20, 50)
QUERIES = 5
SECONDS = 20.0  # for one model; each depth is measured once at the least


def measure(
    corpus: Corpus,
    models: Iterable[tuple[ModelSpec, Availability]],
    keys: Sequence[str] = (),
    *,
    open_retriever: Callable[[Corpus], Lease[Retriever]],
    open_reranker: Callable[[str], Lease[Reranker]],
    device: str = "auto",
) -> Iterator[Stage | dict[str, Any]]:
    """Stages, and at the end the document of `bench --json`: ms a query by reranker and depth.

    `keys` names rerankers among the `models`; without any: every one whose files are here (none is downloaded).
    The others are in `left_out`. Each reranker is opened when its turn comes, and let go after it.
    """
    here = {spec.key: found for spec, found in models if spec.kind == "reranker"}
    keys = _choose(keys, here)
    yield Stage(0, len(keys), "loading the first stage")
    texts = [query.text for query in corpus.queries[:QUERIES]] or [
        p.text[:100] for p in corpus.passages[:QUERIES]
    ]
    with open_retriever(corpus) as index:
        retriever = index.value()
        times, found = measure_first_stage(retriever, texts, max(DEPTHS))
    stage = retriever.first_stage
    revision = stage.embedder.revision if stage.embedder else ""
    first = {"key": stage.key, "revision": revision, **_spread(times)}
    measured = []
    for done, key in enumerate(keys):
        yield Stage(done, len(keys), f"rerankers measured; measuring {key}")
        measured.append(_measure_reranker(key, open_reranker, texts, found))
    yield {
        "machine": {"device": str(choose_device(device)), "processors": os.cpu_count(), "platform": platform.platform()},
        "corpus": corpus.name,
        "first_stage": first,
        "rerankers": measured,
        "left_out": [{"key": key, "reason": f.reason or ("not asked for" if f.available else "not downloaded")} for key, f in here.items() if key not in keys],
    }  # fmt: skip


def _choose(keys: Sequence[str], here: Mapping[str, Availability]) -> list[str]:
    """These rerankers, each once; without any, those on disk. Raises ModelError for one that there is not."""
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
            depths = _depths(reranker, texts, found)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise RerankError(f"{key} failed while it was timed ({cause})") from error
    spec = reranker.spec
    return {"key": key, "model": spec.model, "revision": spec.revision, "load_ms": loaded, "depths": depths}


def _depths(
    reranker: Reranker, texts: Sequence[str], found: Sequence[Sequence[Passage]]
) -> list[dict[str, Any]]:
    """Query by query at every depth, until SECONDS are over."""
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
        {"depth": depth, **_spread(spent), "pairs_per_second": depth * len(spent) * 1000 / sum(spent)}
        for depth, spent in times.items()
    ]


def _spread(times: Sequence[float] | np.ndarray) -> dict[str, Any]:
    return {
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "runs": len(times),
    }

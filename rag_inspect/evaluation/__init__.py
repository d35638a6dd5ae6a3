"""Run an eval set through the first stage and the rerankers. The score cache lets a stopped run resume."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

from rag_inspect import __version__
from rag_inspect.corpora.language import find_languages
from rag_inspect.evaluation.eval_set import EvalSet, count_unread, select_eval_set
from rag_inspect.evaluation.outcome import FirstStageSystem, Outcome, System
from rag_inspect.evaluation.passes import EvalProgress, Pass
from rag_inspect.options import CUTOFFS, SPLIT, TOP_K, TOP_N, check_depths
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Corpus, Reranker, Retriever

__all__ = ["EvalProgress", "add_provenance", "evaluate"]

_VERSIONS = ("chromadb", "numpy", "sentence-transformers", "torch", "transformers")


def evaluate(
    corpus: Corpus,
    retriever: Retriever,
    rerankers: Sequence[Reranker],
    cache: ScoreCache | None = None,
    *,
    split: str = SPLIT,
    top_k: int = TOP_K,
    top_n: int = TOP_N,
    cutoffs: tuple[int, ...] = CUTOFFS,
    keep_identical_ids: bool = False,
    stopped: Callable[[], bool] = lambda: False,
    timed: bool = True,
) -> Iterator[EvalProgress | Outcome]:
    """Yield progress after every batch of scores, then the Outcome; once `stopped` returns True, no Outcome.

    Then each system is timed (if not `timed`, only the first stage); stopped there, the Outcome comes at once. Memory
    grows by a few hundred bytes per query, plus the embedder's query vectors. Raises CorpusError, InputError,
    RetrievalError or RerankError; the cache keeps the scores computed so far.
    """
    check_depths(top_k, top_n)
    chosen = select_eval_set(corpus, split)
    own = frozenset() if keep_identical_ids else corpus.queries_as_passages
    every = len(corpus.passages) - all(query.query_id in own for query in chosen.queries)
    depth = min(top_k, every)
    work = Pass(corpus, chosen, retriever, rerankers, cache, depth, top_n, keep_identical_ids)
    for progress in work.run():
        yield progress
        if stopped():
            yield work.progress(stopped=True)
            return
    latency = yield from work.measure_latencies(stopped, timed)
    spoken, source = find_languages(corpus)
    yield Outcome(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        passage_count=len(corpus.passages),
        split=split,
        first_stage=FirstStageSystem.of(retriever.first_stage),
        rerankers=tuple(System.of(reranker.spec) for reranker in rerankers),
        top_k=top_k,
        top_n=top_n,
        cutoffs=cutoffs,
        queries=chosen.queries,
        qrels=chosen.qrels,
        passage_ids=tuple(work.ids),
        places=work.places,
        scores=work.first_scores,
        logits=work.logits,
        latency=latency,
        languages=spoken,
        language_source=source,
        notes=tuple(work.notes),
        counts=_count(corpus, chosen, work),
    )


def _count(corpus: Corpus, chosen: EvalSet, work: Pass) -> dict[str, int]:
    """Count what the notes are about: in the eval set, the candidates and the models."""
    return {
        "unjudged": chosen.unjudged,
        "without_gold": chosen.without_gold,
        "unknown_gold": chosen.unknown_gold,
        "repeated": chosen.repeated,
        "twin_gold": chosen.twin_gold,
        "left_out": work.left_out,
        "tied": work.tied,
        "scored_pairs": work.scored,
        "cached_pairs": work.cached,
        **_count_unread(corpus, chosen, work),
    }


def _count_unread(corpus: Corpus, chosen: EvalSet, work: Pass) -> dict[str, int]:
    """Count what each model does not read of the queries and their gold."""
    first = work.retriever.first_stage
    window = first.embedder.max_tokens if first.embedder else sys.maxsize
    found = count_unread(corpus, chosen, work.retriever, first.key, window)
    for reranker in work.rerankers:
        found |= count_unread(corpus, chosen, reranker, reranker.spec.key, reranker.spec.max_tokens)
    return found


def add_provenance(outcome: Outcome, corpus: Corpus, notes: Sequence[str] = ()) -> Outcome:
    """Return the outcome with its date, the library versions, its passages' text and the extra notes."""
    found = {pid: corpus.passage_by_id[pid] for pid in outcome.passage_ids}
    return replace(
        outcome,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"rag-inspect": __version__, "python": platform.python_version()}
        | {name: version(name) for name in _VERSIONS},
        passages={pid: (passage.title, passage.text) for pid, passage in found.items()},
        notes=(*outcome.notes, *notes),
    )

"""Run an eval set through first stages and rerankers. The score cache lets a stopped run resume."""

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
from rag_inspect.evaluation.machine import describe_machine
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.passes import Pass
from rag_inspect.evaluation.progress import EvalProgress
from rag_inspect.evaluation.systems import Model
from rag_inspect.evaluation.timing import time_systems
from rag_inspect.options import CUTOFFS, SPLIT, TOP_K, TOP_N, check_depths
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Corpus, Reranker, Retriever

__all__ = ["EvalProgress", "add_provenance", "evaluate"]

_VERSIONS = ("chromadb", "numpy", "sentence-transformers", "torch", "transformers")


def evaluate(
    corpus: Corpus,
    retrievers: Sequence[Retriever],
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
    device: str = "cpu",
) -> Iterator[EvalProgress | Outcome]:
    """Yield progress after every batch of scores, then the Outcome; once `stopped` returns True, no Outcome.

    Each reranker scores each pair once, whichever first stages found it. Then each system is timed (if not `timed`,
    only the first stages); stopped there, the Outcome comes at once. `device` is what the models run on, for the
    record. Memory grows by a few hundred bytes per query and first stage, plus the embedder's query vectors. Raises
    CorpusError, InputError, RetrievalError or RerankError; the cache keeps the scores computed so far.
    """
    check_depths(top_k, top_n)
    chosen = select_eval_set(corpus, split)
    own = frozenset() if keep_identical_ids else corpus.queries_as_passages
    every = len(corpus.passages) - all(query.query_id in own for query in chosen.queries)
    work = Pass(corpus, chosen, retrievers, rerankers, cache, min(top_k, every), top_n, keep_identical_ids)
    for progress in work.run():
        yield progress
        if stopped():
            yield work.progress(stopped=True)
            return
    work.notes += dict.fromkeys(note for stage in work.stages for note in stage.notes or ())
    machine = describe_machine(device)
    latency = yield from time_systems(work, stopped, timed)
    outcome = _make_outcome(work, split, top_k, cutoffs)
    yield replace(outcome, latency=latency, machine=machine, notes=tuple(work.notes))


def _make_outcome(work: Pass, split: str, top_k: int, cutoffs: tuple[int, ...]) -> Outcome:
    """Make the outcome of a pass that has scored everything, without its latencies."""
    corpus, chosen = work.corpus, work.chosen
    spoken, source = find_languages(corpus)
    return Outcome(
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint,
        passage_count=len(corpus.passages),
        split=split,
        stages=tuple(stage.to_outcome(work.deepest) for stage in work.stages),
        rerankers=tuple(Model.of(reranker.spec) for reranker in work.rerankers),
        top_k=top_k,
        top_n=work.top_n,
        cutoffs=cutoffs,
        queries=chosen.queries,
        qrels=chosen.qrels,
        passage_ids=tuple(work.ids),
        languages=spoken,
        language_source=source,
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
        "left_out": len(work.left_out),
        "tied": len(work.tied),
        "scored_pairs": work.scored,
        "cached_pairs": work.cached,
        **_count_unread(corpus, chosen, work),
    }


def _count_unread(corpus: Corpus, chosen: EvalSet, work: Pass) -> dict[str, int]:
    """Count what each model does not read of the queries and their gold."""
    found: dict[str, int] = {}
    for stage in work.stages:
        first = stage.retriever.first_stage
        window = first.embedder.max_tokens if first.embedder else sys.maxsize
        found |= count_unread(corpus, chosen, stage.retriever, first.key, window)
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

"""Run an eval set through first stages and rerankers. The score cache lets a stopped run resume."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import numpy as np

from rag_inspect import __version__
from rag_inspect.corpora.language import find_languages
from rag_inspect.errors import RetrievalError
from rag_inspect.evaluation.eval_set import EvalSet, count_unread, select_eval_set
from rag_inspect.evaluation.levers import DEPTHS, Ranker, find_reach
from rag_inspect.evaluation.machine import describe_machine
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.passes import Fusion, Pass
from rag_inspect.evaluation.progress import EvalProgress
from rag_inspect.evaluation.slices import tag_queries
from rag_inspect.evaluation.systems import Model
from rag_inspect.evaluation.timing import time_systems
from rag_inspect.options import CUTOFFS, GOLD_GRADE, SPLIT, TOP_K, TOP_N, Aim, check_depths
from rag_inspect.pipeline import rank_exactly
from rag_inspect.retrieval import HybridRetriever, describe_hybrid
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Corpus, Query, Reranker, Retriever
from rag_inspect.words import format_count

__all__ = ["EvalProgress", "Fusion", "add_provenance", "evaluate"]

DEFAULT_AIM = Aim()
AUDITED = 200  # queries at most
LEAST_RETURNED = 0.99  # of the nearest passages; an index that returns fewer is worth a note
_VERSIONS = ("chromadb", "numpy", "sentence-transformers", "torch", "transformers")


def evaluate(
    corpus: Corpus,
    retrievers: Sequence[Retriever],
    rerankers: Sequence[Reranker],
    cache: ScoreCache | None = None,
    *,
    split: str = SPLIT,
    gold_grade: int = GOLD_GRADE,
    top_k: int = TOP_K,
    top_n: int = TOP_N,
    cutoffs: tuple[int, ...] = CUTOFFS,
    keep_identical_ids: bool = False,
    fusion: Fusion | None = None,
    aim: Aim = DEFAULT_AIM,
    stopped: Callable[[], bool] = lambda: False,
    timed: bool = True,
    device: str = "cpu",
) -> Iterator[EvalProgress | Outcome]:
    """Yield progress after every batch of scores, then the Outcome; once `stopped` returns True, no Outcome.

    Each reranker scores each pair once, whichever first stages found it. Then each system is timed (if not `timed`,
    only the first stages); stopped there, the Outcome comes at once. A `fusion` costs no forward pass of a reranker: its
    rankings are graded at every weight. `gold_grade` is the lowest grade of gold, `aim` what the document decides by,
    `device` what the models run on. Memory grows by a few hundred bytes per query and first stage, plus the embedder's
    query vectors. Raises CorpusError, InputError, RetrievalError or RerankError; the cache keeps the scores so far.
    """
    check_depths(top_k, top_n)
    chosen = select_eval_set(corpus, split, gold_grade)
    depth = _bound_depth(corpus, chosen, top_k, keep_identical_ids)
    work = Pass(corpus, chosen, retrievers, rerankers, cache, depth, top_n, keep_identical_ids, fusion)
    for progress in work.run():
        yield progress
        if stopped():
            yield work.progress(stopped=True)
            return
    work.notes += _note_stages(work)
    machine = describe_machine(device)
    latency = yield from time_systems(work, stopped, timed)
    outcome = _make_outcome(work, split, top_k, cutoffs)
    yield replace(outcome, aim=aim, latency=latency, machine=machine, notes=tuple(work.notes))


def _bound_depth(corpus: Corpus, chosen: EvalSet, top_k: int, keep_identical_ids: bool) -> int:
    """Return top_k, or how many passages a query can have as candidates if that is fewer."""
    own = frozenset() if keep_identical_ids else corpus.queries_as_passages
    every = len(corpus.passages) - all(query.query_id in own for query in chosen.queries)
    return min(top_k, every)


def _find_reach(corpus: Corpus, work: Pass) -> dict[str, dict[str, int | None]]:
    """Find who ranks the gold of the queries that the first of the first stages does not reach."""
    stage = work.stages[0]
    lost = np.flatnonzero((stage.grades < work.chosen.gold_grade).all(axis=1))
    missed = [work.asked[row] for row in lost]
    gold = {
        query.query_id: [pid for pid in work.chosen.list_gold(query.query_id) if pid in corpus.passage_by_id]
        for query in missed
    }
    retrievers = {each.key: each.retriever for each in work.stages}
    if work.fusion:
        dense, bm25 = work.fusion.dense, work.fusion.bm25
        hybrid = describe_hybrid("hybrid", [dense.first_stage, bm25.first_stage])
        retrievers |= {"bm25": bm25, "hybrid": HybridRetriever(hybrid, corpus, [dense, bm25])}
    rankers: dict[str, Ranker] = {
        key: partial(_rank, work, retriever, work.depth if key != stage.key else max(work.depth, *DEPTHS))
        for key, retriever in retrievers.items()
    }
    try:
        return find_reach(missed, gold, rankers)
    except RetrievalError as error:
        work.notes.append(f"What would reach the unreachable gold is unknown: {error}.")
        return {}


def _rank(
    work: Pass, retriever: Retriever, top_k: int, wanted: Sequence[tuple[Query, Sequence[str]]]
) -> list[dict[str, int]]:
    return rank_exactly(retriever, work.corpus, wanted, top_k, work.keep_identical_ids)


def _note_stages(work: Pass) -> list[str]:
    """Return what the first stages say, and which index misses too many of the nearest passages of a sample of queries."""
    notes = list(dict.fromkeys(note for stage in work.stages for note in stage.notes or ()))
    sample = work.asked[:: -(-len(work.asked) // AUDITED)]
    for stage in work.stages:
        try:
            share = stage.retriever.audit(sample, work.depth)
        except RetrievalError as error:
            notes.append(f"What the index of {stage.key} misses is unknown: {error}.")
            continue
        if share is not None and share < LEAST_RETURNED:
            notes.append(
                f"The index of {stage.key} returns {share:.1%} of the {work.depth} nearest passages (exact search over "
                f"{format_count(len(sample))}); no reranker sees the rest. Raise the index's ef_search, or index anew."
            )
    return notes


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
        fused=work.fusion.to_outcome(work.fused[:, :, : work.deepest]) if work.fusion else None,
        top_k=top_k,
        top_n=work.top_n,
        cutoffs=cutoffs,
        gold_grade=chosen.gold_grade,
        queries=chosen.queries,
        qrels=chosen.qrels,
        passage_ids=tuple(work.ids),
        languages=spoken,
        language_source=source,
        reach=_find_reach(corpus, work),
        tags=tag_queries(chosen.queries),
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

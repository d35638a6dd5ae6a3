"""Search, score, rerank, say what moved: pure, given a retriever, a reranker and a score cache."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rag_inspect.errors import InputError, RerankError
from rag_inspect.retrieval import MAX_TOP_K, ChromaRetriever
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Corpus, Passage, Query, Ranking, Reranker, Search, Verdict

MAX_QUERY_CHARACTERS = 20_000  # past every window but v2-m3's widest; what is longer is cut, and said so

Pair = tuple[str, Passage]


@dataclass(frozen=True)
class Scored:
    """A batch of logits by the pair's place, and whether they came from the cache."""

    logits: Mapping[int, float]
    cached: bool


def check_depths(top_k: int, top_n: int) -> None:
    """Raises InputError unless 1 <= top_n <= top_k <= MAX_TOP_K, whole numbers."""
    for name, value in (("top_k", top_k), ("top_n", top_n)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_TOP_K:
            raise InputError(f"{name} is {value!r}; expected a whole number from 1 to {MAX_TOP_K}")
    if top_n > top_k:
        raise InputError(
            f"top_n {top_n} is more than top_k {top_k}; only candidates can be kept, so lower top_n or raise top_k"
        )


def make_query(text: str, corpus: Corpus) -> tuple[Query, tuple[str, ...]]:
    """The eval query whose text this is, or a new one without an id; and notes where it had to be cut.

    Raises InputError where there is nothing to search for.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError("the query is blank; type a question or some keywords")
    text = text.strip().encode("utf-8", "replace").decode()  # half a surrogate pair breaks every tokenizer
    if len(text) > MAX_QUERY_CHARACTERS:
        note = f"The query has {len(text):,} characters; the models were given the first {MAX_QUERY_CHARACTERS:,}."
        return Query("", text[:MAX_QUERY_CHARACTERS]), (note,)
    return corpus.query_by_text.get(text) or Query("", text), ()


def score_pairs(
    reranker: Reranker, pairs: Sequence[Pair], cache: ScoreCache | None = None
) -> Iterator[Scored]:
    """Logits of the pairs: first all that the cache knows, then batch by batch what the model had to read.

    Equal pairs are read once. Each batch is in the cache before it is yielded; closing the iterator stops
    the work there. Raises RerankError, naming the model, at a logit that is not finite.
    """
    known = cache.get(reranker.fingerprint, pairs) if cache else {}
    if known:
        yield Scored(known, cached=True)
    places: dict[tuple[str, str], list[int]] = {}
    for place, (query, passage) in enumerate(pairs):
        if place not in known:
            places.setdefault((query, passage.full_text), []).append(place)
    groups = list(places.values())
    todo = [pairs[group[0]] for group in groups]
    for batch in reranker.score_pairs(todo) if todo else ():
        for at, logit in batch.items():
            if not math.isfinite(logit):
                raise RerankError(
                    f"{reranker.spec.key} ({reranker.spec.model}) gave {logit} for passage "
                    f'"{todo[at][1].passage_id}"; no order can be made of it, so try another reranker'
                )
        if cache:
            cache.put(reranker.fingerprint, [(todo[at], logit) for at, logit in batch.items()])
        yield Scored({place: logit for at, logit in batch.items() for place in groups[at]}, cached=False)


def rerank(candidates: Ranking, logits: Mapping[str, float]) -> Ranking:
    """The same passages by falling logit; equal logits keep the first stage's order.

    Raises RerankError where a candidate has no logit or one that is not finite.
    """
    for hit in candidates:
        if not math.isfinite(logits.get(hit.passage_id, math.nan)):
            raise RerankError(
                f'passage "{hit.passage_id}" has the logit {logits.get(hit.passage_id)}; no order can be made of it'
            )
    ordered = sorted(candidates, key=lambda hit: -logits[hit.passage_id])
    return Ranking.of([(hit.passage_id, logits[hit.passage_id]) for hit in ordered])


def judge(before: int | None, after: int | None, top_n: int) -> Verdict:
    """The verdict of a judged query by its best gold passage's rank before and after the reranker."""
    if before is None or after is None:
        return "unreachable"
    if after <= top_n < before:
        return "rescued"
    if before <= top_n < after:
        return "lost"
    if before > top_n:
        return "near_miss"
    return "held" if after == before else "promoted" if after < before else "demoted"


def summarise(search: Search) -> str:
    """What happened, in one or two short sentences: the gold first, then how much moved."""
    if search.reranked is None:
        return ""
    moved = sum(move.delta != 0 for move in search.moves)
    entered = sum(move.after <= search.top_n < move.before for move in search.moves)
    count = f"{moved} of {len(search.candidates)} moved" if moved else "Nothing moved"
    sentence = f"{count}; {entered or 'none'} entered the top {search.top_n}." if moved else f"{count}."
    if not search.gold:
        return sentence
    before, after = search.candidates.best_rank(search.gold), search.reranked.best_rank(search.gold)
    best = "The gold passage" if len(search.gold) == 1 else "The best gold passage"
    if before is None or after is None:
        none = (
            "The gold passage is not"
            if len(search.gold) == 1
            else f"None of the {len(search.gold)} gold passages is"
        )
        gold = f"{none} among the {len(search.candidates)} candidates: no reranker can help here."
    elif before == after:
        gold = f"{best} stayed at {before}."
    else:
        gold = f"{best} moved {before} → {after}."
    return f"{gold} {sentence}"


def finish(search: Search) -> Search:
    """The search with its reranked order, verdict and summary, once every candidate has its logit."""
    reranked = rerank(search.candidates, search.logits)
    before, after = search.candidates.best_rank(search.gold), reranked.best_rank(search.gold)
    verdict = judge(before, after, search.top_n) if search.gold else None
    done = replace(search, reranked=reranked)
    return replace(done, verdict=verdict, summary=summarise(done))


def search(
    text: str,
    retriever: ChromaRetriever,
    reranker: Reranker,
    cache: ScoreCache | None = None,
    top_k: int = 20,
    top_n: int = 5,
    corpus: Corpus | None = None,
) -> Iterator[Search]:
    """One query through both stages: yields the candidates at once, then each batch of logits, then the end.

    `corpus` is the one asked where other judgements or metadata stand over the same passages than in the index's own.
    The last Search yielded is the finished one. Raises InputError, RetrievalError or RerankError.
    """
    check_depths(top_k, top_n)
    corpus = corpus or retriever.corpus
    query, notes = make_query(text, corpus)
    clock = _Clock()
    vectors = retriever.embedder.embed_queries([query.text])
    clock.lap("embed")
    [(candidates, found)] = retriever.retrieve(vectors, top_k)
    passages = [replace(corpus.passage_by_id[p.passage_id], embedding=p.embedding) for p in found]
    clock.lap("retrieve")
    state = Search(
        query,
        corpus.name,
        retriever.embedder.spec,
        reranker.spec,
        top_k,
        top_n,
        candidates,
        passages={p.passage_id: p for p in passages},
        gold=corpus.gold(query.query_id),
        timings_ms=clock.laps,
        notes=notes,
    )
    yield state
    clock.lap()
    for scored in score_pairs(reranker, [(query.text, p) for p in passages], cache):
        clock.lap("rerank")
        logits = {passages[at].passage_id: logit for at, logit in scored.logits.items()}
        state = replace(
            state,
            logits={**state.logits, **logits},
            cached_pairs=state.cached_pairs + (len(logits) if scored.cached else 0),
            scored_pairs=state.scored_pairs + (0 if scored.cached else len(logits)),
        )
        yield state
        clock.lap()
    clock.lap("rerank")
    readings = reranker.readings(query.text, passages)
    state = replace(state, readings={p.passage_id: r for p, r in zip(passages, readings, strict=True)})
    yield finish(replace(state, timings_ms={**clock.laps, "total": sum(clock.laps.values())}))


class _Clock:
    """Milliseconds between laps, added up by name; a lap without one is not counted (the caller had the turn)."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str = "") -> None:
        now = time.perf_counter()
        if name:
            self.laps = {**self.laps, name: self.laps.get(name, 0.0) + (now - self._last) * 1000}
        self._last = now

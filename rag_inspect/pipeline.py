"""One query: find candidates, score them, rerank, and describe what moved. It holds no state of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rag_inspect.corpora.fields import is_blank
from rag_inspect.errors import InputError, RerankError
from rag_inspect.metrics import GOLD_GRADE
from rag_inspect.options import TOP_N
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import rank, score_pairs
from rag_inspect.types import (
    Candidates,
    Corpus,
    Query,
    Ranking,
    Reranker,
    Reranking,
    Retriever,
    Verdict,
    fold_text,
)
from rag_inspect.words import format_count

MAX_QUERY_CHARACTERS = 20_000  # about 5,000 tokens of English; of our models only bge-m3 could read more


def make_query(text: str, corpus: Corpus, query_id: str | None = None) -> tuple[Query, tuple[str, ...]]:
    """Return the corpus's query with this id, else the one that looks like this text, else one without an id.

    The notes say if it was cut, or if several queries look the same. Raises InputError for a blank query, an unknown
    id, and an id that belongs to another text.
    """
    if query_id:
        known = _find_query(query_id, text, corpus)
        text, notes = clean_query(known.text)
        return replace(known, text=text), notes
    text, notes = clean_query(text)
    same = corpus.find_queries(text)
    if len(same) == 1 and not notes:
        return same[0], ()
    if len(same) > 1:
        ids = ", ".join(query.query_id[:40] for query in same[:3]) + (", …" if len(same) > 3 else "")
        notes += (
            f"{len(same):,} queries of the corpus have this text ({ids}); query_id says which one is meant.",
        )
    return Query("", text), notes


def clean_query(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text as the models get it, and a note if it was cut. Raises InputError if it is blank."""
    if not isinstance(text, str) or is_blank(text):
        raise InputError("the query is blank (no visible text); type a question or some keywords")
    text = text.strip().encode("utf-8", "replace").decode()  # half a surrogate pair breaks every tokenizer
    if len(text) <= MAX_QUERY_CHARACTERS:
        return text, ()
    note = (
        f"The query has {len(text):,} characters; the models were given the first {MAX_QUERY_CHARACTERS:,}."
    )
    return text[:MAX_QUERY_CHARACTERS], (note,)


def _find_query(query_id: str, text: str, corpus: Corpus) -> Query:
    known = corpus.query_by_id.get(query_id)
    if known is None:
        raise InputError(
            f'{corpus.name} has no query "{query_id[:80]}"; give an id from its queries, or only the text'
        )
    if text.strip() and fold_text(text) != fold_text(known.text):
        raise InputError(
            f'query "{query_id[:80]}" of {corpus.name} reads {known.text[:80]!r}, not {text.strip()[:80]!r}; '
            "leave out the text or the id"
        )
    return known


def retrieve(
    retriever: Retriever,
    corpus: Corpus,
    queries: Sequence[Query],
    top_k: int,
    keep_identical_ids: bool = False,
) -> list[Candidates]:
    """Find the candidates of each query, without the query itself (as BEIR does with `ignore_identical_ids`).

    That is the passage with the judged query's id; `keep_identical_ids` keeps it. Raises RetrievalError.
    """
    own = frozenset() if keep_identical_ids else corpus.queries_as_passages
    one_more = any(query.query_id in own for query in queries)
    found = retriever.search(queries, top_k + one_more)
    return [_leave_out(candidates, own, top_k) for candidates in found] if one_more else found


def _leave_out(candidates: Candidates, own: frozenset[str], top_k: int) -> Candidates:
    """Keep the first `top_k` candidates that are not the query itself."""
    query_id = candidates.query.query_id
    rank = candidates.ranking.rank_by_id.get(query_id, 0) if query_id in own else 0
    hits = [hit for hit in candidates.ranking if hit.rank != rank]
    chosen, beyond = hits[:top_k], hits[top_k:]
    tied = bool(chosen) and candidates.ranking.hits[-1].score == chosen[-1].score
    return replace(
        candidates,
        top_k=top_k,
        ranking=Ranking.of([(hit.passage_id, hit.score) for hit in chosen]),
        passages={hit.passage_id: candidates.passages[hit.passage_id] for hit in chosen},
        tied=candidates.tied + len(beyond) if tied else 0,
        left_out=query_id if 1 <= rank <= top_k else "",
    )


def rank_exactly(
    retriever: Retriever,
    corpus: Corpus,
    wanted: Sequence[tuple[Query, Sequence[str]]],
    top_k: int,
    keep_identical_ids: bool = False,
) -> list[dict[str, int]]:
    """Return the true rank of each query's wanted passages, as `Retriever.rank_exactly`; without the query itself.

    That is the passage that `retrieve` leaves out; those behind it move up. Raises RetrievalError.
    """
    own = frozenset() if keep_identical_ids else corpus.queries_as_passages
    asked = [(query, [*ids, *({query.query_id} & own)]) for query, ids in wanted]
    found = retriever.rank_exactly(asked, top_k)
    for (query, _), ranks in zip(asked, found, strict=True):
        if query.query_id in own and (itself := ranks.pop(query.query_id, None)):
            ranks |= {pid: rank - 1 for pid, rank in ranks.items() if rank > itself}
    return found


def find_candidates(
    retriever: Retriever,
    corpus: Corpus,
    text: str,
    top_k: int,
    query_id: str | None = None,
    keep_identical_ids: bool = False,
    gold_grade: int = GOLD_GRADE,
) -> Candidates:
    """Find the candidates of one query, and add the corpus's name, judgements and metadata to them.

    The retriever may index another corpus with the same passages. Raises InputError or RetrievalError.
    """
    query, notes = make_query(text, corpus, query_id)
    [found] = retrieve(retriever, corpus, [query], top_k, keep_identical_ids)
    passages = {
        passage_id: replace(corpus.passage_by_id[passage_id], embedding=passage.embedding)
        for passage_id, passage in found.passages.items()
    }
    grades = corpus.qrels.get(query.query_id, {})
    told = retriever.readings(query.text, found.in_order) or ()
    readings = dict(zip(found.ranking.passage_ids, told, strict=False))
    notes += (*found.notes, *_describe_candidates(found))
    return replace(
        found,
        passages=passages,
        corpus=corpus.name,
        grades=grades,
        gold_grade=gold_grade,
        readings=readings,
        notes=notes,
    )


def _describe_candidates(found: Candidates) -> Iterator[str]:
    """Describe how the candidates were chosen, if a reader should know."""
    if found.left_out:
        yield (
            f'Passage "{found.left_out}" is the query itself (it has the same id) and was left out; '
            "keep_identical_ids keeps it."
        )
    if found.tied:
        more = format_count(found.tied, "more passage ties", "more passages tie")
        last, name = found.ranking.hits[-1], found.first_stage.score_name
        yield (
            f"{more} with the last candidate ({name} {last.score:.4f}) and did not fit into top_k ({found.top_k}); "
            "ties keep the corpus's order."
        )


def rerank(
    candidates: Candidates, reranker: Reranker, cache: ScoreCache | None = None, top_n: int = TOP_N
) -> Iterator[Reranking]:
    """Yield a Reranking before the first score and after each batch; the last one is complete and has its verdict.

    Raises RerankError.
    """
    state = Reranking(
        candidates=candidates, reranker=reranker.spec, top_n=top_n, timings_ms=candidates.timings_ms
    )
    yield state
    passages, clock = candidates.in_order, _Clock(candidates.timings_ms)
    scores: dict[str, float] = {}
    for scored in score_pairs(reranker, candidates.pairs, cache):
        clock.lap("rerank")
        scores |= {passages[at].passage_id: score for at, score in scored.scores.items()}
        state = replace(
            state,
            ranking=rank(candidates.ranking, scores),
            cached_pairs=state.cached_pairs + (len(scored.scores) if scored.cached else 0),
            cached_ms=scored.ms if scored.cached else state.cached_ms,
            scored_pairs=state.scored_pairs + (0 if scored.cached else len(scored.scores)),
        )
        if not state.complete:  # the complete one is yielded below, with its verdict
            yield state
        clock.lap()
    clock.lap("rerank")
    if missing := [pid for pid in candidates.ranking.passage_ids if pid not in scores]:
        raise RerankError(
            f'{reranker.spec.key} gave no score for passage "{missing[0]}" ({len(scores)} of '
            f"{len(candidates)} have one); a ranking needs them all, so try another reranker"
        )
    readings = reranker.readings(candidates.query.text, passages)
    known = {} if readings is None else dict(zip(candidates.ranking.passage_ids, readings, strict=True))
    times = {**clock.laps, "total": sum(clock.laps.values())}
    yield finish(replace(state, readings=known, timings_ms=times))


def finish(reranking: Reranking) -> Reranking:
    """Add the verdict and the summary to a reranking in which every candidate has a score."""
    candidates, gold = reranking.candidates, reranking.candidates.gold
    before, after = candidates.ranking.best_rank(gold), reranking.ranking.best_rank(gold)
    verdict = name_verdict(before, after, reranking.top_n) if gold else None
    return replace(reranking, verdict=verdict, summary=summarise(reranking))


def name_verdict(before: int | None, after: int | None, top_n: int) -> Verdict:
    """Name the verdict of a judged query, from the rank of its best gold passage before and after the reranker.

    None is the rank of a passage that is not among the candidates.
    """
    if before is None or after is None:
        return "unreachable"
    if after <= top_n < before:
        return "rescued"
    if before <= top_n < after:
        return "lost"
    if before > top_n:
        return "near_miss"
    return "held" if after == before else "promoted" if after < before else "demoted"


def summarise(reranking: Reranking) -> str:
    """Describe the reranking in one or two short sentences: first the gold, then how many passages moved."""
    if not reranking.complete:
        return ""
    candidates, top_n = reranking.candidates, reranking.top_n
    moved = sum(move.delta != 0 for move in reranking.moves)
    entered = sum(move.after <= top_n < move.before for move in reranking.moves)
    if not len(candidates):
        return f"{candidates.first_stage.key} found no candidates, so there is nothing to rerank."
    count = f"{moved} of {len(candidates)} moved" if moved else "Nothing moved"
    sentence = f"{count}; {entered or 'none'} entered the top {top_n}." if moved else f"{count}."
    return f"{_describe_gold(reranking)} {sentence}" if candidates.gold else sentence


def _describe_gold(reranking: Reranking) -> str:
    """Describe what became of the gold: of the best-graded passage where grades differ, else of the best rank."""
    candidates, gold = reranking.candidates, reranking.candidates.gold
    if candidates.ranking.best_rank(gold) is None:
        none = "The gold passage is not" if len(gold) == 1 else f"None of the {len(gold)} gold passages are"
        return f"{none} among the {len(candidates)} candidates: no reranker can help here."
    grade = max(candidates.grades[passage_id] for passage_id in gold)
    best = frozenset(passage_id for passage_id in gold if candidates.grades[passage_id] == grade)
    if best == gold:
        return _describe_best(
            reranking, gold, "The gold passage" if len(gold) == 1 else "The best gold passage"
        )
    one = len(best) == 1
    if candidates.ranking.best_rank(best) is None:
        named = "The best-graded gold passage is" if one else f"The {len(best)} best-graded gold passages are"
        rest = _describe_best(reranking, gold - best, "The best of the other gold")
        return f"{named} not among the {len(candidates)} candidates. {rest}"
    return _describe_best(
        reranking, best, "The best-graded gold passage" if one else "The first of the best-graded gold"
    )


def _describe_best(reranking: Reranking, passages: frozenset[str], name: str) -> str:
    """Say where the best rank of these passages went; if another passage now holds it, that the first one lost it."""
    first, second = reranking.candidates.ranking, reranking.ranking
    before, after = first.best_rank(passages), second.best_rank(passages)
    if before != after:
        return f"{name} moved {before} → {after}."
    fell = next(second.rank_by_id[hit.passage_id] for hit in first if hit.rank == before)
    if fell == before:
        return f"{name} stayed at {before}."
    return f"Another gold passage is now at {before}: the one that was there moved {before} → {fell}."


class _Clock:
    """Adds up milliseconds by lap name. A lap without a name is the caller's time and is not counted."""

    def __init__(self, before: Mapping[str, float]) -> None:
        self.laps: dict[str, float] = dict(before)
        self._last = time.perf_counter()

    def lap(self, name: str = "") -> None:
        now = time.perf_counter()
        if name:
            self.laps = {**self.laps, name: self.laps.get(name, 0.0) + (now - self._last) * 1000}
        self._last = now

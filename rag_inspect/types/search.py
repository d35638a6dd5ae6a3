"""One query in both stages: its candidates, the retriever that finds them, their reranking, and all of it as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from rag_inspect.types.corpus import Corpus, Passage, Query
from rag_inspect.types.models import FirstStage, ModelSpec, Pair, Reading
from rag_inspect.types.ranking import Hit, Ranking, RankMove, Verdict


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates:
    """The first stage's ranking of one query, at most `top_k` deep, with its passages.

    A retriever knows neither the corpus's name nor its judgements. The pipeline adds `corpus`, `grades` (every
    judgement of this query, by passage_id), `readings` (empty if the first stage does not tell), `left_out` and more
    `notes`. `timings_ms` is empty if several queries were searched together.
    """

    query: Query
    first_stage: FirstStage
    top_k: int
    ranking: Ranking
    passages: Mapping[str, Passage]
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    corpus: str = ""
    grades: Mapping[str, int] = field(default_factory=dict)
    tied: int = 0  # passages below top_k that score the same as the last candidate
    readings: Mapping[str, Reading] = field(default_factory=dict)
    left_out: str = ""  # the passage with the query's own id, where it was among the candidates
    notes: tuple[str, ...] = ()
    parts: Mapping[str, Mapping[str, int]] = field(
        default_factory=dict
    )  # of a hybrid: key -> passage_id -> rank
    gold_grade: int = 1

    @property
    def gold(self) -> frozenset[str]:
        """The ids that are gold for the query: of grade `gold_grade` or above."""
        return frozenset(pid for pid, grade in self.grades.items() if grade >= self.gold_grade)

    @property
    def unjudged(self) -> frozenset[str]:
        """The ids of the candidates that nobody judged; none where only gold was judged, as in most eval sets."""
        if all(grade > 0 for grade in self.grades.values()):
            return frozenset()
        return frozenset(self.ranking.passage_ids) - frozenset(self.grades)

    @property
    def in_order(self) -> list[Passage]:
        """The passages, best first."""
        return [self.passages[hit.passage_id] for hit in self.ranking]

    @property
    def pairs(self) -> list[Pair]:
        """The query's text with each passage, best first: the input of a reranker."""
        return [(self.query.text, passage) for passage in self.in_order]

    def __len__(self) -> int:
        return len(self.ranking)


@runtime_checkable
class Retriever(Protocol):
    """A first stage over one corpus. It takes the text of queries and need not use vectors."""

    @property
    def first_stage(self) -> FirstStage: ...

    def search(self, queries: Sequence[Query], top_k: int) -> list[Candidates]:
        """Find the candidates of each query: at most `top_k`, best first, with their passages.

        There may be fewer, or none, with a note that says why. Equal scores keep the corpus's order. Raises
        RetrievalError.
        """
        ...

    def rank_exactly(self, wanted: Sequence[tuple[Query, Sequence[str]]], top_k: int) -> list[dict[str, int]]:
        """Return the rank from 1, in the whole corpus, of each query's wanted passages (ids that the corpus has).

        A passage that it does not rank at all is left out. An index plays no part: vectors are compared one by one. A
        fusion ranks what it fuses in a search for `top_k`.
        """
        ...

    def audit(self, queries: Sequence[Query], top_k: int) -> float | None:
        """Return the share, 0 to 1, of the true `top_k` passages of these queries that its index returns.

        None if it has no index that could miss any. Raises RetrievalError.
        """
        ...

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return how much of each passage, and of the query, it reads; None if it does not tell or reads everything."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Reranking:
    """The candidates as one reranker orders them, complete or in progress.

    `ranking` has the passages scored so far, best first. `readings` is empty if the reranker does not tell what it
    read. `verdict` (None without gold) and `summary` are set once it is complete. `timings_ms` has the steps of both
    stages; `load`, if models were loaded or passages indexed first; and their `total`, once it is complete.
    `cached_ms`, which is not part of it, is what the cached pairs took when the model scored them; None if that is
    unknown for one of them.
    """

    candidates: Candidates
    reranker: ModelSpec
    top_n: int
    ranking: Ranking = field(default_factory=lambda: Ranking(()))
    readings: Mapping[str, Reading] = field(default_factory=dict)
    verdict: Verdict | None = None
    summary: str = ""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    scored_pairs: int = 0
    cached_pairs: int = 0
    cached_ms: float | None = 0.0
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True if every candidate has its score."""
        return len(self.ranking) == len(self.candidates)

    @property
    def moves(self) -> tuple[RankMove, ...]:
        """The move of each passage, in reranked order; empty until the reranking is complete."""
        before = self.candidates.ranking.rank_by_id
        hits = self.ranking if self.complete else ()
        return tuple(RankMove(hit.passage_id, before[hit.passage_id], hit.rank) for hit in hits)


# JSON: the document of `search --json`, of the API's /search and of recorded searches


def write_search(rerankings: Sequence[Reranking]) -> dict[str, Any]:
    """Return one JSON document for complete rerankings of the same candidates; with several, it has a list `rerankings`."""
    first, candidates = rerankings[0], rerankings[0].candidates
    parts = _reranking_document(first)
    document = {
        "query": candidates.query.text,
        "query_id": candidates.query.query_id or None,
        "corpus": candidates.corpus,
        "first_stage": _first_stage_document(candidates.first_stage),
        "reranker": parts.pop("reranker"),
        "top_k": candidates.top_k,
        "top_n": first.top_n,
        "candidates": [_candidate_document(candidates, hit) for hit in candidates.ranking],
        "reranked": parts.pop("reranked"),
        "gold": sorted(candidates.gold),
        "query_readings": [
            {
                "model": key,
                "read_tokens": query.read,
                "total_tokens": query.total,
                "unknown_tokens": query.unknown,
            }
            for key, readings in list_readings(*rerankings)
            if (query := find_query_reading(readings))
        ],
        **parts,
    }
    if len(rerankings) > 1:
        document["rerankings"] = [_reranking_document(reranking) for reranking in rerankings]
    return document


def _first_stage_document(stage: FirstStage) -> dict[str, Any]:
    embedder = stage.embedder and {"key": stage.embedder.key, "revision": stage.embedder.revision}
    described = {"key": stage.key, "kind": stage.kind, "score_name": stage.score_name, "embedder": embedder}
    return described | ({"parts": [part.key for part in stage.parts]} if stage.parts else {})


def _candidate_document(candidates: Candidates, hit: Hit) -> dict[str, Any]:
    title, grade = candidates.passages[hit.passage_id].title, candidates.grades.get(hit.passage_id)
    parts = {key: ranks.get(hit.passage_id) for key, ranks in candidates.parts.items()}
    return {
        "passage_id": hit.passage_id,
        "title": title,
        "rank": hit.rank,
        "score": hit.score,
        "grade": grade,
        **_reading_document(candidates.readings.get(hit.passage_id)),
        **({"parts": parts} if parts else {}),
    }


def _reranking_document(reranking: Reranking) -> dict[str, Any]:
    spec = reranking.reranker
    return {
        "reranker": {"key": spec.key, "revision": spec.revision, "score_name": spec.score_name},
        "reranked": [
            asdict(hit)
            | {"from_rank": move.before, "delta": move.delta}
            | _reading_document(reranking.readings.get(hit.passage_id))
            for hit, move in zip(reranking.ranking, reranking.moves, strict=True)
        ],
        "verdict": reranking.verdict,
        "summary": reranking.summary,
        "timings_ms": {name: round(ms, 3) for name, ms in reranking.timings_ms.items()},
        "scored_pairs": reranking.scored_pairs,
        "cached_pairs": reranking.cached_pairs,
        "cached_ms": None if reranking.cached_ms is None else round(reranking.cached_ms, 3),
        "notes": [*reranking.candidates.notes, *reranking.notes],
    }


def list_readings(*rerankings: Reranking) -> list[tuple[str, Mapping[str, Reading]]]:
    """Return (model's key, what it read of each passage) of the first stage, then of the rerankers."""
    first = rerankings[0].candidates
    return [
        (first.first_stage.reader, first.readings),
        *((each.reranker.key, each.readings) for each in rerankings),
    ]


def find_query_reading(readings: Mapping[str, Reading]) -> Reading | None:
    """Return what was read of the query next to the passage that left it the least room; None if unknown."""
    told = [reading.query for reading in readings.values() if reading.query]
    return min(told, key=lambda query: query.read, default=None)


def _reading_document(reading: Reading | None) -> dict[str, int | None]:
    """Return both counts; both are None (null) if the model does not tell what it read."""
    return {
        "read_tokens": reading.read if reading else None,
        "truncated_tokens": reading.truncated if reading else None,
    }


def read_search(
    document: Mapping[str, Any],
    corpus: Corpus,
    first_stages: Mapping[str, FirstStage],
    rerankers: Mapping[str, ModelSpec],
) -> list[Reranking]:
    """Read the rerankings in a document of `write_search` over the same corpus.

    Raises KeyError, TypeError or ValueError for a document of another version, or one that names unknown things.
    """
    query, stage = corpus.query_by_id[document["query_id"]], first_stages[document["first_stage"]["key"]]
    ranking = Ranking.of([(hit["passage_id"], hit["score"]) for hit in document["candidates"]])
    candidates = Candidates(
        query=query,
        first_stage=stage,
        top_k=int(document["top_k"]),
        ranking=ranking,
        passages={passage_id: corpus.passage_by_id[passage_id] for passage_id in ranking.passage_ids},
        corpus=corpus.name,
        readings=_read_readings(document, stage.reader, document["candidates"]),
        grades=corpus.qrels.get(query.query_id, {}),
    )
    parts = document.get("rerankings", [document])
    return [_read_reranking(document, part, candidates, rerankers) for part in parts]


def _read_readings(
    document: Mapping[str, Any], key: str, hits: Sequence[Mapping[str, Any]]
) -> dict[str, Reading]:
    """Return what a model read of each passage; of the query, the least, as the document has it."""
    rows = {row["model"]: row for row in document["query_readings"]}
    row = rows.get(key)
    query = Reading(row["read_tokens"], row["total_tokens"], row["unknown_tokens"]) if row else None
    read = {hit["passage_id"]: (hit["read_tokens"], hit["truncated_tokens"]) for hit in hits}
    return {
        pid: Reading(seen, seen + cut, query=query) for pid, (seen, cut) in read.items() if seen is not None
    }


def _read_reranking(
    document: Mapping[str, Any],
    part: Mapping[str, Any],
    candidates: Candidates,
    rerankers: Mapping[str, ModelSpec],
) -> Reranking:
    hits = part["reranked"]
    if {hit["passage_id"] for hit in hits} != set(candidates.ranking.passage_ids):
        raise ValueError("the reranked passages are not the candidates")
    if not all(math.isfinite(hit["score"]) for hit in hits):
        raise ValueError("a score is not a finite number")
    return Reranking(
        candidates=candidates,
        reranker=rerankers[part["reranker"]["key"]],
        top_n=int(document["top_n"]),
        ranking=Ranking.of([(hit["passage_id"], hit["score"]) for hit in hits]),
        readings=_read_readings(document, part["reranker"]["key"], hits),
        verdict=part["verdict"],
        summary=str(part["summary"]),
        timings_ms={str(name): float(ms) for name, ms in part["timings_ms"].items()},
        scored_pairs=int(part["scored_pairs"]),
        cached_pairs=int(part["cached_pairs"]),
        cached_ms=None if (ms := part.get("cached_ms")) is None else float(ms),  # 0.1.0 wrote none
        notes=tuple(part["notes"]),
    )

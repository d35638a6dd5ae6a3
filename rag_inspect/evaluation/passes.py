"""The work of an evaluation: retrieve with each first stage and score with each reranker, a chunk of queries at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rag_inspect.errors import RagInspectError, RerankError, RetrievalError
from rag_inspect.evaluation.eval_set import EvalSet
from rag_inspect.evaluation.fusion import WEIGHTS, fuse_rankings, grade_rankings
from rag_inspect.evaluation.outcome import FusedOutcome, StageOutcome
from rag_inspect.evaluation.progress import EvalProgress
from rag_inspect.evaluation.systems import FirstStageSystem, Model, join_key
from rag_inspect.metrics import HEADLINE, NO_PASSAGE, Judged, grade_ranking, ideal_grades, parse
from rag_inspect.pipeline import clean_query, name_verdict, retrieve
from rag_inspect.retrieval.hybrid import choose_depth
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import order_columns, score_pairs
from rag_inspect.types import Candidates, Corpus, Pair, Passage, Reranker, Retriever

PAIRS_AT_ONCE = 512  # in one chunk, which may have many queries: sorted by length and scored together
PAIRS_AT_FIRST = 128  # until the pace of the models is known
CHUNK_SECONDS = 10.0  # a slow model reports rows at least this often
PACE_HALF_LIFE = 60.0  # seconds of scoring, after which a batch has half its weight in the pace


class Found:
    """What one first stage found, and what the rerankers scored it; the arrays are those of a StageOutcome."""

    def __init__(self, retriever: Retriever, shape: tuple[int, int], rerankers: Sequence[Reranker]) -> None:
        self.retriever, self.key = retriever, retriever.first_stage.key
        self.places = np.full(shape, -1, dtype=np.int32)
        self.grades = np.full(shape, NO_PASSAGE)
        self.scores = np.full(shape, np.nan)
        self.logits = {reranker.spec.key: np.full(shape, np.nan) for reranker in rerankers}
        self.notes: list[str] | None = None  # what it says with every query that it finds something for

    def keep_notes(self, candidates: Candidates) -> None:
        """Keep of the notes those that are not about one query alone."""
        if len(candidates):
            said = list(candidates.notes) if self.notes is None else self.notes
            self.notes = [note for note in said if note in candidates.notes]

    def order(self, reranker: str, rows: slice) -> np.ndarray:
        """Return the columns of these queries in a reranker's order."""
        return order_columns(self.logits[reranker][rows])

    def to_outcome(self, depth: int) -> StageOutcome:
        """Return the first `depth` columns."""
        return StageOutcome(
            first_stage=FirstStageSystem.of(self.retriever.first_stage),
            places=self.places[:, :depth],
            scores=self.scores[:, :depth],
            logits={key: logits[:, :depth] for key, logits in self.logits.items()},
        )


@dataclass(slots=True)
class Cell:
    """A pair that each reranker scores once, and every place (stage, row, column) that its score belongs to."""

    text: str
    passage: Passage
    places: list[tuple[Found, int, int]] = field(default_factory=list)

    @property
    def pair(self) -> Pair:
        return self.text, self.passage


@dataclass(frozen=True)
class Fusion:
    """The two first stages of the tuned fusion."""

    dense: Retriever
    bm25: Retriever

    @property
    def key(self) -> str:
        return f"fusion:{self.dense.first_stage.key}+{self.bm25.first_stage.key}"

    def to_outcome(self, grades: np.ndarray) -> FusedOutcome:
        """Return the fusion with the grades of its rankings."""
        embedder = self.dense.first_stage.embedder
        assert embedder is not None  # it has vectors
        return FusedOutcome(key=self.key, embedder=Model.of(embedder), grades=grades)


class Pass:
    """The state of one evaluation while it runs."""

    def __init__(
        self,
        corpus: Corpus,
        chosen: EvalSet,
        retrievers: Sequence[Retriever],
        rerankers: Sequence[Reranker],
        cache: ScoreCache | None,
        depth: int,
        top_n: int,
        keep_identical_ids: bool = False,
        fusion: Fusion | None = None,
    ) -> None:
        self.corpus, self.chosen, self.rerankers, self.cache = corpus, chosen, rerankers, cache
        self.depth, self.top_n, self.keep_identical_ids = depth, top_n, keep_identical_ids
        shape = (len(chosen.queries), depth)
        self.stages = [Found(retriever, shape, rerankers) for retriever in retrievers]
        self.fusion, self.fused = fusion, np.zeros((len(WEIGHTS), *shape) if fusion else (0, 0, 0))
        self.asked = [replace(query, text=clean_query(query.text)[0]) for query in chosen.queries]
        self.texts = [query.text for query in self.asked]
        self.ids: dict[str, int] = {}  # passage_id -> place, in order of first retrieval
        # Rows of queries that were candidates of themselves; of those whose last candidate ties with others.
        self.left_out: set[int] = set()
        self.tied: set[int] = set()
        self.queries_done = self.pairs_done = self.scored = self.cached = 0
        # Places that need no score of their own: empty ones, and pairs that another stage found too.
        self.spared = 0
        self.began, self.at_work = time.perf_counter(), ""
        self.lately = np.zeros(2)  # recent pairs that a model scored, and the seconds it took
        self.notes: list[str] = []
        self.sums: dict[str, dict[str, float]] = {}

    def run(self) -> Iterator[EvalProgress]:
        """For each chunk: retrieve with each first stage, then score all that they found with each reranker."""
        n, width = len(self.texts), self.depth * len(self.stages)
        while self.queries_done < n:
            step = max(1, self._pairs_at_once // width)
            rows = range(self.queries_done, min(n, self.queries_done + step))
            cells = self.retrieve(rows)
            for reranker in self.rerankers:
                self.at_work = reranker.spec.key
                with self._explain_failure(reranker.spec.key, RerankError):
                    yield from self.score(reranker, cells)
            self.queries_done = rows.stop
            self._add_up(rows)
            yield self.progress(tuple(self._row(row) for row in rows))

    @property
    def _pairs_at_once(self) -> int:
        """The size of the next chunk: large for speed, but no more than a slow model scores in CHUNK_SECONDS."""
        if not self.pairs_done:
            return PAIRS_AT_FIRST
        pace = self._pace
        return min(PAIRS_AT_ONCE, int(pace / len(self.rerankers) * CHUNK_SECONDS)) if pace else PAIRS_AT_ONCE

    @property
    def _pace(self) -> float | None:
        """Recent pairs per second; None if no model has scored any."""
        pairs, seconds = self.lately
        return float(pairs / seconds) if seconds else None

    def retrieve(self, rows: range) -> list[Cell]:
        """Fill the arrays with the candidates of these queries; return the pairs, each once."""
        queries, cells = [self.asked[row] for row in rows], dict[tuple[int, str], Cell]()
        for stage in self.stages:
            with self._explain_failure(stage.key, RetrievalError):
                found = retrieve(stage.retriever, self.corpus, queries, self.depth, self.keep_identical_ids)
            for row, candidates in zip(rows, found, strict=True):
                self._take(stage, row, candidates, cells)
        if self.fusion:
            with self._explain_failure(self.fusion.key, RetrievalError):
                self.fused[:, rows.start : rows.stop] = self._fuse(self.fusion, rows)
        self.spared += len(rows) * self.depth * len(self.stages) - len(cells)
        return list(cells.values())

    def _fuse(self, fusion: Fusion, rows: range) -> np.ndarray:
        """Return the grades of these queries' fused rankings at each weight, float (W, rows, depth)."""
        queries, deep = [self.asked[row] for row in rows], choose_depth(self.depth)
        found = [
            retrieve(part, self.corpus, queries, deep, self.keep_identical_ids)
            for part in (fusion.dense, fusion.bm25)
        ]
        rankings = [
            fuse_rankings(first.ranking, second.ranking, self.depth)
            for first, second in zip(*found, strict=True)
        ]
        grades = [self.chosen.qrels[self.chosen.queries[row].query_id] for row in rows]
        return grade_rankings(rankings, grades, self.depth)

    def _take(
        self, stage: Found, row: int, candidates: Candidates, cells: dict[tuple[int, str], Cell]
    ) -> None:
        """Put the candidates of one query into the arrays and among the pairs."""
        stage.keep_notes(candidates)
        if candidates.left_out:
            self.left_out.add(row)
        if candidates.tied:
            self.tied.add(row)
        grades = self.chosen.qrels[self.chosen.queries[row].query_id]
        stage.grades[row, : len(candidates)] = grade_ranking(candidates.ranking.passage_ids, grades)
        for column, (hit, passage) in enumerate(zip(candidates.ranking, candidates.in_order, strict=True)):
            stage.places[row, column] = self.ids.setdefault(hit.passage_id, len(self.ids))
            stage.scores[row, column] = hit.score
            cell = cells.setdefault((row, hit.passage_id), Cell(self.texts[row], passage))
            cell.places.append((stage, row, column))
            if cell.passage.embedding is None:  # mini needs no embedder for a passage that brings its vector
                cell.passage = passage

    def score(self, reranker: Reranker, cells: Sequence[Cell]) -> Iterator[EvalProgress]:
        """Score these pairs; yields progress after each batch."""
        key = reranker.spec.key
        for scored in score_pairs(reranker, [cell.pair for cell in cells], self.cache):
            for at, score in scored.scores.items():
                for stage, row, column in cells[at].places:
                    stage.logits[key][row, column] = score
            self.pairs_done += len(scored.scores)
            if scored.cached:
                self.cached += len(scored.scores)
            else:
                self.record_pace(len(scored.scores), (scored.ms or 0.0) / 1000)
            yield self.progress()

    def record_pace(self, pairs: int, seconds: float) -> None:
        """Record that the model scored this many pairs in this many seconds."""
        self.scored += pairs
        self.lately = self.lately * 0.5 ** (seconds / PACE_HALF_LIFE) + (pairs, seconds)

    @contextmanager
    def _explain_failure(self, model: str, kind: type[RagInspectError]) -> Iterator[None]:
        """Add to any error how far the run got and which scores are kept."""
        try:
            yield
        except Exception as error:
            ours = isinstance(error, RagInspectError)
            cause = error if ours else f"{model} failed ({type(error).__name__}: {error})"
            place = (
                f"stopped after {self.queries_done} of {len(self.texts)} queries, {self.pairs_done:,} pairs"
            )
            trouble = self.cache.trouble if self.cache else "nothing was kept"
            kept = trouble or "they are in the score cache, and the next run continues from there"
            raise kind(f"{cause}; {place}; {kept}") from error

    def progress(
        self, finished: tuple[Mapping[str, Any], ...] = (), stopped: bool = False, timing: str = ""
    ) -> EvalProgress:
        places = len(self.texts) * self.depth * len(self.stages)
        total = (places - self.spared) * len(self.rerankers)
        pace = self._pace
        overall = self.pairs_done / max(time.perf_counter() - self.began, 1e-6)
        left = (total - self.pairs_done) / (pace or overall) if self.pairs_done else None
        done = max(1, self.queries_done)
        means = {key: {name: value / done for name, value in sums.items()} for key, sums in self.sums.items()}
        return EvalProgress(
            self.queries_done,
            len(self.texts),
            self.pairs_done,
            total,
            self.cached,
            pace,
            left,
            self.at_work,
            means,
            finished,
            stopped,
            timing,
        )

    def _row(self, row: int) -> dict[str, Any]:
        query, ranks, verdicts = self.chosen.queries[row], dict[str, int | None](), {}
        for stage in self.stages:
            gold = stage.grades[row] >= self.chosen.gold_grade
            before = ranks[stage.key] = _find_first(gold)
            for reranker in stage.logits:
                system = join_key(stage.key, reranker)
                after = _find_first(gold[stage.order(reranker, slice(row, row + 1))[0]])
                ranks[system], verdicts[system] = after, name_verdict(before, after, top_n=self.top_n)
        return {"query_id": query.query_id, "query": query.text, "ranks": ranks, "verdicts": verdicts}

    def _add_up(self, rows: range) -> None:
        """Add the metrics of these queries to the sums."""
        some = slice(rows.start, rows.stop)
        least, qrels = self.chosen.gold_grade, [self.chosen.qrels[each.query_id] for each in self.asked[some]]
        ideal = ideal_grades(qrels, 10, least)
        for stage in self.stages:
            first = Judged(stage.grades[some], *ideal, least)
            systems = {stage.key: first}
            for reranker in stage.logits:
                systems[join_key(stage.key, reranker)] = first.reordered(stage.order(reranker, some))
            for key, judged in systems.items():
                sums = self.sums.setdefault(key, dict.fromkeys(HEADLINE, 0.0))
                for name in HEADLINE:
                    sums[name] += float(parse(name).values(judged).sum())

    @property
    def deepest(self) -> int:
        """The length of the longest ranking, at least 1."""
        return max(1, max(int((stage.places >= 0).sum(axis=1).max()) for stage in self.stages))


def _find_first(gold: np.ndarray) -> int | None:
    """Return the rank of the first gold passage, or None."""
    found = np.flatnonzero(gold)
    return int(found[0]) + 1 if found.size else None

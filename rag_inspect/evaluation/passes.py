"""The work of an evaluation: retrieve, score and measure, one chunk of queries at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rag_inspect.errors import RagInspectError, RerankError, RetrievalError
from rag_inspect.evaluation.eval_set import EvalSet
from rag_inspect.evaluation.latency import list_timed_depths, measure_live, sample_first_stage
from rag_inspect.evaluation.outcome import Latency
from rag_inspect.metrics import HEADLINE, Judged, ideal_grades, parse
from rag_inspect.pipeline import clean_query, name_verdict, retrieve
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import order_columns, score_pairs
from rag_inspect.types import Corpus, Passage, Reranker, Retriever
from rag_inspect.words import format_count, format_duration

PAIRS_AT_ONCE = 512  # in one chunk, which may have many queries: sorted by length and scored together
PAIRS_AT_FIRST = 128  # until the pace of the models is known
CHUNK_SECONDS = 10.0  # a slow model reports rows at least this often
PACE_HALF_LIFE = 60.0  # seconds of scoring, after which a batch has half its weight in the pace
MAX_NOTE = 500  # characters of a note about a failure


@dataclass(frozen=True)
class EvalProgress:
    """How far an evaluation is; `finished` has the rows that are new since the last progress."""

    queries_done: int
    queries: int
    pairs_done: int
    pairs: int
    cached_pairs: int
    pairs_per_second: float | None  # without cached pairs; None until a model has scored one
    seconds_left: float | None
    reranker: str  # the one that is scoring
    means: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # system -> metric -> mean so far
    finished: tuple[Mapping[str, Any], ...] = ()  # {query_id, query, rank_before, ranks, verdicts}
    stopped: bool = False
    timing: str = ""  # the system whose latency is being measured, and how far that is; "" while scoring

    def __str__(self) -> str:
        if self.timing:
            scored = format_count(self.pairs_done, "pair", "pairs")
            return f"{format_count(self.queries)}, {scored} scored; timing {self.timing}"
        pace = f", {self.pairs_per_second:,.0f} a second" if self.pairs_per_second else ""
        left = f", {format_duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        done = f"{self.queries_done:,} / {self.queries:,} queries, {self.pairs_done:,} / {self.pairs:,} pairs"
        return f"{done}{pace}{left} ({self.reranker})"


class Pass:
    """The state of one evaluation while it runs."""

    def __init__(
        self,
        corpus: Corpus,
        chosen: EvalSet,
        retriever: Retriever,
        rerankers: Sequence[Reranker],
        cache: ScoreCache | None,
        depth: int,
        top_n: int,
        keep_identical_ids: bool = False,
    ) -> None:
        self.corpus, self.chosen, self.retriever, self.rerankers = corpus, chosen, retriever, rerankers
        self.cache, self.top_n, self.keep_identical_ids = cache, top_n, keep_identical_ids
        shape = (len(chosen.queries), depth)
        self.asked = [replace(query, text=clean_query(query.text)[0]) for query in chosen.queries]
        self.texts = [query.text for query in self.asked]
        self.ids: dict[str, int] = {}  # passage_id -> place, in order of first retrieval
        self.places = np.full(shape, -1, dtype=np.int32)
        self.grades = np.zeros(shape)
        self.first_scores = np.full(shape, np.nan)
        self.logits = {reranker.spec.key: np.full(shape, np.nan) for reranker in rerankers}
        # Queries that were candidates of themselves; queries whose last candidate ties with others.
        self.left_out = self.tied = 0
        self.queries_done = self.pairs_done = self.scored = self.cached = 0
        self.began, self.at_work = time.perf_counter(), ""
        self.lately = np.zeros(2)  # recent pairs that a model scored, and the seconds it took
        self.notes: list[str] = []
        self.sums: dict[str, dict[str, float]] = {}

    def run(self) -> Iterator[EvalProgress]:
        """For each chunk: retrieve, then score with each reranker."""
        n, depth = self.places.shape
        while self.queries_done < n:
            step = max(1, self._pairs_at_once // depth)
            rows = range(self.queries_done, min(n, self.queries_done + step))
            with self._explain_failure(self.retriever.first_stage.key, RetrievalError):
                found = self.retrieve(rows)
            for reranker in self.rerankers:
                self.at_work = reranker.spec.key
                with self._explain_failure(reranker.spec.key, RerankError):
                    yield from self.score(reranker, rows, found)
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

    def retrieve(self, rows: range) -> list[list[Passage]]:
        """Fill the arrays with the candidates of these queries; return the passages."""
        queries, depth = [self.asked[row] for row in rows], self.places.shape[1]
        found = retrieve(self.retriever, self.corpus, queries, depth, self.keep_identical_ids)
        self.left_out += sum(bool(candidates.left_out) for candidates in found)
        self.tied += sum(bool(candidates.tied) for candidates in found)
        for row, candidates in zip(rows, found, strict=True):
            grades = self.chosen.qrels[self.chosen.queries[row].query_id]
            for column, hit in enumerate(candidates.ranking):
                self.places[row, column] = self.ids.setdefault(hit.passage_id, len(self.ids))
                self.first_scores[row, column] = hit.score
                self.grades[row, column] = max(0, grades.get(hit.passage_id, 0))
        return [candidates.in_order for candidates in found]

    def score(
        self, reranker: Reranker, rows: range, found: Sequence[Sequence[Passage]]
    ) -> Iterator[EvalProgress]:
        """Score the candidates of these queries; yields progress after each batch."""
        cells = [(row, c) for row, passages in zip(rows, found, strict=True) for c in range(len(passages))]
        pairs = [(self.texts[row], p) for row, passages in zip(rows, found, strict=True) for p in passages]
        logits = self.logits[reranker.spec.key]
        for scored in score_pairs(reranker, pairs, self.cache):
            for at, score in scored.scores.items():
                logits[cells[at]] = score
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
        total = self.places.size * len(self.rerankers)
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
        query, grades = self.chosen.queries[row], self.grades[row]
        before = _find_first_gold(grades)
        ranks = {
            key: _find_first_gold(grades[self._order(key, slice(row, row + 1))[0]]) for key in self.logits
        }
        return {
            "query_id": query.query_id,
            "query": query.text,
            "rank_before": before,
            "ranks": ranks,
            "verdicts": {key: name_verdict(before, rank, top_n=self.top_n) for key, rank in ranks.items()},
        }

    def _order(self, key: str, rows: slice) -> np.ndarray:
        return order_columns(self.logits[key][rows])

    def _add_up(self, rows: range) -> None:
        """Add the metrics of these queries to the sums."""
        some = slice(rows.start, rows.stop)
        qrels = (self.chosen.qrels[query.query_id] for query in self.chosen.queries[some])
        first = Judged(self.grades[some], *ideal_grades(qrels, 10))
        systems = {self.retriever.first_stage.key: first}
        systems |= {key: first.reordered(self._order(key, some)) for key in self.logits}
        for key, judged in systems.items():
            sums = self.sums.setdefault(key, dict.fromkeys(HEADLINE, 0.0))
            for name in HEADLINE:
                sums[name] += float(parse(name).values(judged).sum())

    def measure_latencies(
        self, stopped: Callable[[], bool], timed: bool
    ) -> Generator[EvalProgress, None, dict[str, Latency]]:
        """Time every system on a few queries, one at a time; if not `timed`, only the first stage.

        If a model fails here, or once `stopped`, a latency is unknown and `notes` says why; the evaluation goes on.
        """
        depth, first = self.places.shape[1], self.retriever.first_stage.key
        yield self.progress(timing=first)
        try:
            known = {first: sample_first_stage(self.retriever, self.texts, depth)}
        except Exception as error:
            self._note_untimed(first, error)
            return {first: Latency()}
        for reranker in self.rerankers if timed else ():
            known[reranker.spec.key] = yield from self._time(reranker, known[first].depth_ms[0], stopped)
        untimed = [key for key, latency in known.items() if latency.p50 is None]
        if stopped() and untimed:
            self.notes.append(f"Stopped while timing: the latency of {', '.join(untimed)} is unknown.")
        *shallow, deepest = map(str, list_timed_depths(depth))
        if len(known) > 1 + len(untimed) and len(shallow) + 1 < depth:
            self.notes.append(
                f"Rerankers were timed at depths {', '.join(shallow)} and {deepest}; between these, latency is interpolated."
            )
        return known

    def _time(
        self, reranker: Reranker, first_stage_ms: float, stopped: Callable[[], bool]
    ) -> Generator[EvalProgress, None, Latency]:
        key, depth = reranker.spec.key, self.places.shape[1]
        if stopped():
            return Latency()
        steps = measure_live(self.retriever, reranker, self.texts, depth, first_stage_ms, stopped)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                measured: Latency = end.value
                return measured
            except Exception as error:
                self._note_untimed(key, error)
                return Latency()
            yield self.progress(timing=f"{key}, {step}")

    def _note_untimed(self, key: str, error: Exception) -> None:
        self.notes.append(f"{key} could not be timed ({type(error).__name__}: {error})."[:MAX_NOTE])


def _find_first_gold(grades: np.ndarray) -> int | None:
    """Return the rank of the first gold passage, or None."""
    found = np.flatnonzero(grades > 0)
    return int(found[0]) + 1 if found.size else None

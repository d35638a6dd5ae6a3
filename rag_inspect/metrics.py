"""Retrieval metrics as objects: parse one from text with `parse("ndcg@10")`, then compute it for one ranking or many.

All formulas are trec_eval's (https://github.com/usnistgov/trec_eval), and a test holds them equal to pytrec_eval.
Some call hit@k "recall@k" or "success@k"; here recall@k divides by all the gold a query has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import SupportsIndex

import numpy as np

from rag_inspect.errors import InputError
from rag_inspect.words import describe_value

MAX_CUTOFF = 1000
MAX_CUTOFFS = 10  # each adds six measures for every system and query
GOLD_GRADE = 1  # a passage of this grade or above is gold, unless another is chosen
UNJUDGED, NO_PASSAGE = -1.0, -2.0  # in place of a grade: nobody judged this passage; the ranking has ended


@dataclass(frozen=True)
class Judged:
    """The grades of n rankings, rank by rank.

    grades: shape (n, depth), of the passage at each rank; 0 if its grade is negative, UNJUDGED if it has none, and
    NO_PASSAGE past the end. ideal: shape (n, width), each query's positive grades, best first, padded with 0.
    gold: shape (n,), how many passages of each query are gold, retrieved or not. gold_grade: the lowest grade of gold;
    nDCG counts every grade above 0, as trec_eval does (its -l).
    """

    grades: np.ndarray
    ideal: np.ndarray
    gold: np.ndarray
    gold_grade: int = GOLD_GRADE

    def reordered(self, order: np.ndarray) -> Judged:
        """Return the same candidates in another order; `order` has the shape of `grades`."""
        return replace(self, grades=np.take_along_axis(self.grades, order, axis=1))

    @property
    def best_first(self) -> Judged:
        """The same candidates as a perfect reranker would order them."""
        return replace(self, grades=-np.sort(-self.grades, axis=1))

    @property
    def found(self) -> np.ndarray:
        """Whether the passage at each rank is gold; bool of the shape of `grades`."""
        return np.asarray(self.grades >= self.gold_grade)

    @property
    def first_gold(self) -> np.ndarray:
        """The rank of each ranking's best gold passage, 0 if there is none; int of shape (n,)."""
        return np.where(self.found.any(axis=1), self.found.argmax(axis=1) + 1, 0)


def grade_ranking(passage_ids: Iterable[str], grades: Mapping[str, int]) -> list[float]:
    """Return the row of a Judged for one ranking; `grades` are its query's."""
    found = map(grades.get, passage_ids)
    return [UNJUDGED if grade is None else float(max(grade, 0)) for grade in found]


def ideal_grades(
    qrels: Iterable[Mapping[str, int]], width: int, gold_grade: int = GOLD_GRADE
) -> tuple[np.ndarray, np.ndarray]:
    """Return (ideal, gold) of a Judged; `width` is the deepest cutoff, or the largest number of grades above 0."""
    ideal, gold = [], []
    for grades in qrels:
        positive = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
        ideal.append((positive + [0] * width)[:width])
        gold.append(sum(grade >= gold_grade for grade in positive))
    return np.array(ideal, dtype=float).reshape(len(gold), width), np.array(gold, dtype=int)


def _hits(judged: Judged, cutoff: int) -> np.ndarray:
    return np.asarray(judged.found[:, :cutoff].sum(axis=1), dtype=float)


def _recall(judged: Judged, cutoff: int) -> np.ndarray:
    return _hits(judged, cutoff) / np.maximum(judged.gold, 1)


def _precision(judged: Judged, cutoff: int) -> np.ndarray:
    return _hits(judged, cutoff) / cutoff


def _hit(judged: Judged, cutoff: int) -> np.ndarray:
    return np.minimum(_hits(judged, cutoff), 1.0)


def _reciprocal_rank(judged: Judged, cutoff: int) -> np.ndarray:
    first = judged.first_gold
    return np.where((first > 0) & (first <= cutoff), 1.0 / np.maximum(first, 1), 0.0)


def _ndcg(judged: Judged, cutoff: int) -> np.ndarray:
    best = _dcg(judged.ideal, cutoff)
    return np.divide(_dcg(judged.grades, cutoff), best, out=np.zeros_like(best), where=best > 0)


def _judged(judged: Judged, cutoff: int) -> np.ndarray:
    passages = (judged.grades[:, :cutoff] > NO_PASSAGE).sum(axis=1)
    return np.asarray(
        (judged.grades[:, :cutoff] > UNJUDGED).sum(axis=1) / np.maximum(passages, 1), dtype=float
    )


def _dcg(grades: np.ndarray, cutoff: int) -> np.ndarray:
    gains = np.maximum(grades[:, :cutoff], 0)
    return np.asarray(gains @ (1 / np.log2(np.arange(2, gains.shape[1] + 2))), dtype=float)


@dataclass(frozen=True)
class Measure:
    """One family of metrics; `tooltip` is a template over k."""

    label: str
    tooltip: str
    values: Callable[[Judged, int], np.ndarray]


MEASURES: dict[str, Measure] = {
    "recall": Measure(
        "recall", "share of a query's gold passages that are among the first {k}, mean over queries", _recall
    ),
    "precision": Measure(
        "precision", "share of the first {k} passages that are gold, mean over queries", _precision
    ),
    "mrr": Measure(
        "MRR",
        "1 / rank of the first gold passage, 0 where it is not among the first {k}, mean over queries",
        _reciprocal_rank,
    ),
    "ndcg": Measure(
        "nDCG",
        "gain of the first {k}, discounted by log2(rank + 1), divided by that of the best possible order; the gain is the grade",
        _ndcg,
    ),
    "hit": Measure("hit", "share of queries with at least one gold passage among the first {k}", _hit),
    "judged": Measure(
        "judged",
        "share of the first {k} passages that somebody judged for the query; the others count as not gold",
        _judged,
    ),
}
_ALSO = {"p": "precision", "rr": "mrr", "success": "hit", "r": "recall"}
_NAME = re.compile(r"([a-z]+)@([1-9][0-9]{0,5})")


@dataclass(frozen=True, order=True)
class Metric:
    """One measure at one cutoff; `str` gives the text that `parse` reads, `label` the name for headings and prose."""

    measure: str
    cutoff: int

    def __str__(self) -> str:
        return f"{self.measure}@{self.cutoff}"

    @property
    def label(self) -> str:
        return f"{MEASURES[self.measure].label}@{self.cutoff}"

    @property
    def tooltip(self) -> str:
        return f"{self.label}: {MEASURES[self.measure].tooltip.format(k=self.cutoff)}"

    def values(self, judged: Judged) -> np.ndarray:
        """Compute one value per query, float of shape (n,), each between 0 and 1."""
        return MEASURES[self.measure].values(judged, self.cutoff)

    def of(self, passage_ids: Sequence[str], grades: Mapping[str, int]) -> float:
        """Compute the value of one ranking, best passage first, with one query's grades."""
        row = grade_ranking(passage_ids[: self.cutoff], grades) or [NO_PASSAGE]
        return float(self.values(Judged(np.array([row]), *ideal_grades([grades], self.cutoff)))[0])


def parse(name: str) -> Metric:
    """Parse `ndcg@10`, `MRR@5`, `hit@1` … Raises InputError, which lists the measures."""
    found = _NAME.fullmatch(name.strip().lower()) if isinstance(name, str) else None
    measure = _ALSO.get(found[1], found[1]) if found else ""
    if not found or measure not in MEASURES or int(found[2]) > MAX_CUTOFF:
        known = ", ".join(f"{measure}@k" for measure in MEASURES)
        raise InputError(
            f"unknown metric {describe_value(name, 40)}; expected {known} with k from 1 to {MAX_CUTOFF}, such as ndcg@10"
        )
    return Metric(measure, int(found[2]))


def _check_cutoff(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError
    return index(value)


def parse_cutoffs(text: str | Sequence[int]) -> tuple[int, ...]:
    """Parse `"1,5,10"`, or check numbers; returns them sorted, each once. Raises InputError."""
    try:
        parts = map(int, text.split(",")) if isinstance(text, str) else map(_check_cutoff, text)
        cutoffs = sorted(set(parts))
    except (TypeError, ValueError):
        cutoffs = []
    if not 1 <= len(cutoffs) <= MAX_CUTOFFS or not all(1 <= cutoff <= MAX_CUTOFF for cutoff in cutoffs):
        raise InputError(
            f"cutoffs are {describe_value(text)}; expected at most {MAX_CUTOFFS} whole numbers from 1 to {MAX_CUTOFF}, such as 1,5,10"
        )
    return tuple(cutoffs)


HEADLINE = ("recall@5", "mrr@5", "ndcg@10", "hit@1")
"""The metrics that a table has room for; computed whatever the cutoffs are."""


def metrics_at(cutoffs: Sequence[int], more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """List the headline metrics, then every measure at every cutoff, then `more`; each once."""
    every = [Metric(measure, cutoff) for cutoff in cutoffs for measure in MEASURES]
    return tuple(dict.fromkeys([*map(parse, HEADLINE), *every, *map(parse, more)]))

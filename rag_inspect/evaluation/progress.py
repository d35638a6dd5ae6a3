"""How far an evaluation is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_inspect.words import format_count, format_duration


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
    finished: tuple[Mapping[str, Any], ...] = ()  # {query_id, query, ranks, verdicts}
    stopped: bool = False
    timing: str = ""  # what is being timed, and how far that is; "" while scoring

    def __str__(self) -> str:
        if self.timing:
            scored = format_count(self.pairs_done, "pair", "pairs")
            return f"{format_count(self.queries)}, {scored} scored; timing {self.timing}"
        pace = f", {self.pairs_per_second:,.0f} a second" if self.pairs_per_second else ""
        left = f", {format_duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        done = f"{self.queries_done:,} / {self.queries:,} queries, {self.pairs_done:,} / {self.pairs:,} pairs"
        return f"{done}{pace}{left} ({self.reranker})"

"""What the parts of a passage and the words of a query do to a reranker's score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rag_inspect.types.models import Reading


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a text, which are `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one part does to the score: `score_without` is the score without it.

    rank_without: where the passage would then stand among the search's candidates, the others held fixed. shares: what
    each component of the score has of `delta`; empty if the score has only one, or the reranker does not tell.
    """

    span: Span
    score_without: float
    delta: float
    rank_without: int
    shares: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        shares = {"shares": dict(self.shares)} if self.shares else {}
        return {
            **asdict(self.span), "score_without": self.score_without, "delta": self.delta, "rank_without": self.rank_without,
            **shares,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Check:
    """Whether the strongest parts carry the score.

    strongest: the two parts left out together, by their place among the parts. change: how much the score changes
    without them; usual: without two others, the mean over `draws` seeded draws. carried: whether `change` is larger than
    in every draw and at least twice `usual`.
    """

    strongest: tuple[int, int]
    change: float
    usual: float
    draws: int
    carried: bool

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "strongest": list(self.strongest)}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A passage's score for a query, explained by leaving out one part at a time; growing while it is measured.

    text: what the reranker is given of the passage, its full text; the spans of `parts` are of it, those of `words` of
    `query`. rank: where it stands among the search's candidates. read: where in the text what a model reads ends, by the
    model's key; without those that do not tell. reading: the reranker's. done of `total` pairs are scored. check: None before the end, or if there are too few parts.
    """

    query: str
    passage_id: str
    text: str
    score: float
    rank: int
    parts: tuple[Effect, ...] = ()
    words: tuple[Effect, ...] = ()
    check: Check | None = None
    read: Mapping[str, int] = field(default_factory=dict)
    reading: Reading | None = None
    notes: tuple[str, ...] = ()
    done: int = 0
    total: int = 0

    @property
    def complete(self) -> bool:
        return self.done >= self.total

    def _write_reading(self) -> dict[str, int | None] | None:
        """Return how much of the text the reranker reads; None if it does not tell."""
        if self.reading is None:
            return None
        return {
            "read_tokens": self.reading.read,
            "total_tokens": self.reading.total,
            "read_characters": self.reading.characters,
            "total_characters": len(self.text),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the part of `explain --json` that is about this passage alone."""
        return {
            "passage_id": self.passage_id,
            "text": self.text,
            "score": self.score,
            "rank": self.rank,
            "reading": self._write_reading(),
            "parts": [effect.to_json() for effect in self.parts],
            "query_words": [effect.to_json() for effect in self.words],
            "check": self.check.to_json() if self.check else None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """What an edited passage, or an edited query, would score and where it would stand among the search's candidates.

    The other candidates keep their texts; with an edited query they are scored again, too. margin: how far the score is
    above that of the first passage outside the top n, or below that of the last one inside (negative); None if there
    is none. The `notes` say what was cut.
    """

    passage_id: str
    score: float
    score_before: float
    rank: int
    rank_before: int
    margin: float | None
    top_n: int
    notes: tuple[str, ...] = ()

"""Why is this passage here: what each part of it, and each word of the query, does to the reranker's score.

A part is left out, everything else is scored as before, and the difference is the part's effect. Whether the effects tell
the truth is measured too: see `Check`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from rag_inspect.parts import MOST, Split, leave_out, split_passage, split_query
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import score_pairs
from rag_inspect.types import (
    Check,
    Effect,
    Explanation,
    Location,
    Pair,
    Passage,
    Reranker,
    Reranking,
    Span,
)
from rag_inspect.words import format_count

DRAWS = 20
MOST_PAIRS = 2 * (MOST + 1) + DRAWS  # that one explanation scores
LEAST_PARTS = 6  # with fewer, there are too few other pairs to compare the strongest with
SEED = 20_261_127


def explain(
    search: Reranking,
    passage: Passage,
    reranker: Reranker,
    cache: ScoreCache | None = None,
    language: str = "en",
) -> Iterator[Explanation]:
    """Yield the explanation of a passage's score for a complete search, growing batch by batch.

    `passage` need not be a candidate. `language` is the code of the corpus's language, by which sentences are found.
    Closing the iterator stops the work; what was scored is in the cache. Raises RerankError.
    """
    work = _Work(search, passage, reranker, language)
    known: dict[int, float] = {}
    for known in _score(reranker, work.pairs, cache):
        if 0 in known:
            yield work.describe(known)
    yield from work.check(known, cache)


def _score(reranker: Reranker, pairs: Sequence[Pair], cache: ScoreCache | None) -> Iterator[dict[int, float]]:
    """Yield the scores so far, by the pair's place, after each batch."""
    known: dict[int, float] = {}
    for scored in score_pairs(reranker, pairs, cache):
        known |= scored.scores
        yield known


class _Work:
    """The pairs of one explanation: the passage, then without each part, then for the query without each word."""

    def __init__(self, search: Reranking, passage: Passage, reranker: Reranker, language: str) -> None:
        self.search, self.passage, self.reranker = search, passage, reranker
        self.query, self.text = search.candidates.query.text, passage.full_text
        told, first = reranker.readings(self.query, [passage]), search.candidates
        self.reading = told[0] if told else None
        readings = {
            first.first_stage.key: first.readings.get(passage.passage_id),
            reranker.spec.key: self.reading,
        }
        ends = {key: reading.characters for key, reading in readings.items() if reading}
        self.read = {key: end for key, end in ends.items() if end is not None}
        self.parts = split_passage(passage, language, self.read.get(reranker.spec.key))
        self.words = split_query(self.query)
        self.pairs: list[Pair] = [
            (self.query, passage),
            *((self.query, self.without([span])) for span in self.parts.spans),
            *((leave_out(self.query, [span]), passage) for span in self.words.spans),
        ]
        self.added: dict[int, dict[str, float]] = {}  # by place: what is added to the model's own score
        pairs = math.comb(max(0, len(self.parts.spans) - 2), 2)
        self.drawn = min(DRAWS, pairs) if len(self.parts.spans) >= LEAST_PARTS else 0

    def without(self, spans: Sequence[Span]) -> Passage:
        """Return the passage without these parts; it has no stored vector."""
        return Passage(self.passage.passage_id, leave_out(self.text, spans))

    def describe(
        self, known: Mapping[int, float], check: Check | None = None, checked: int = 0
    ) -> Explanation:
        """Return the explanation as far as these pairs are scored."""
        score, parts = known[0], self.parts.spans
        shares = self._share(known)
        effects = {
            place: Effect(
                span=span,
                score_without=known[place],
                delta=score - known[place],
                rank_without=self.rank(known[place]),
                shares=shares.get(place, {}),
            )
            for place, span in enumerate([*parts, *self.words.spans], 1)
            if place in known
        }
        return Explanation(
            query=self.query,
            passage_id=self.passage.passage_id,
            text=self.text,
            score=score,
            rank=self.rank(score),
            parts=tuple(effect for place, effect in effects.items() if place <= len(parts)),
            words=tuple(effect for place, effect in effects.items() if place > len(parts)),
            check=check,
            read=self.read,
            reading=self.reading,
            notes=tuple(_note_joined(self.parts, "part of the passage", "parts of the passage"))
            + tuple(_note_joined(self.words, "word of the query", "words of the query")),
            done=len(known) + checked,
            total=len(self.pairs) + (self.drawn + 1 if self.drawn else 0),
        )

    def _share(self, known: Mapping[int, float]) -> dict[int, dict[str, float]]:
        """Return, by place, what each component of the score has of the difference; the rest is the model's own."""
        new = [place for place in known if place not in self.added]
        found = self.reranker.components([self.pairs[place] for place in new])
        for at, place in enumerate(new):
            self.added[place] = {name: values[at] for name, values in found.items()}
        whole = self.added[0]
        shares = {}
        for place in known if whole else ():
            added = {name: value - self.added[place][name] for name, value in whole.items()}
            shares[place] = {**added, "cross-encoder": known[0] - known[place] - sum(added.values())}
        return shares

    def rank(self, score: float) -> int:
        """Return where the passage stands with this score among the search's candidates, the others held fixed."""
        order = self.search.candidates.ranking.rank_by_id
        own = order.get(self.passage.passage_id, len(order) + 1)
        others = (hit for hit in self.search.ranking if hit.passage_id != self.passage.passage_id)
        return 1 + sum((-hit.score, order[hit.passage_id]) < (-score, own) for hit in others)

    def check(self, known: Mapping[int, float], cache: ScoreCache | None) -> Iterator[Explanation]:
        """Leave the two strongest parts out together, then two others at random; yield the explanation, at last with the Check."""
        if not self.drawn:
            return
        strongest = self._find_strongest(known)
        others = [at for at in range(len(self.parts.spans)) if at not in strongest]
        drawn = random.Random(SEED).sample(list(combinations(others, 2)), self.drawn)
        pairs = [
            (self.query, self.without([self.parts.spans[at] for at in two])) for two in (strongest, *drawn)
        ]
        for scored in _score(self.reranker, pairs, cache):
            yield self.describe(known, checked=len(scored))
        change, *usual = (abs(known[0] - scored[place]) for place in range(len(pairs)))
        mean = sum(usual) / len(usual)
        found = Check(
            strongest=strongest,
            change=change,
            usual=mean,
            draws=len(usual),
            carried=change > max(usual) and change >= 2 * mean,
        )
        yield self.describe(known, found, len(pairs))

    def _find_strongest(self, known: Mapping[int, float]) -> tuple[int, int]:
        """Return the part with the largest effect, and the next that has the same sign; else the next."""
        effects = [known[0] - known[place] for place in range(1, len(self.parts.spans) + 1)]
        order = sorted(range(len(effects)), key=lambda at: -abs(effects[at]))
        first, *rest = order
        second = next((at for at in rest if effects[at] * effects[first] > 0), rest[0])
        return first, second


def write_explanation(
    search: Reranking, location: Location, explained: Explanation | None, against: Explanation | None = None
) -> dict[str, Any]:
    """Return the document of `explain --json` and the API's /explain; `against` explains another passage.

    `explained` is None if the corpus has no such passage.
    """
    none: dict[str, Any] = {"score": None, "parts": [], "query_words": []}
    return {
        "query": search.candidates.query.text,
        "corpus": search.candidates.corpus,
        "passage_id": location.passage_id,
        "reranker": search.reranker.key,
        **(explained.to_json() if explained else none),
        "against": against.to_json() if against else None,
        "where": location.to_json(),
    }


def _note_joined(split: Split, *words: str) -> Iterator[str]:
    if split.found > len(split.spans):
        yield f"{format_count(split.found, *words)} were joined into {len(split.spans)}, the shortest neighbours first."

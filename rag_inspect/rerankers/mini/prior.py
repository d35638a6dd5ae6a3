"""The prior: a score from cosine and word overlap, added to the cross-encoder's logit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from rag_inspect.transformer import clean_text
from rag_inspect.types import Embedder, Pair, Passage

REMEMBERED = 4096
"""Vectors remembered, of passages that bring none: 6 MB."""

MAX_TOKENS = 512
"""Only the first tokens of a text count: the cross-encoder's window."""


class Prior:
    """One number per pair: cosine_weight x cosine + coverage_weight x coverage.

    The cosine is between the embedder's vectors of query and passage; the coverage is `Words.coverage`.
    """

    def __init__(
        self, embedder: Embedder, words: Words, *, cosine_weight: float, coverage_weight: float
    ) -> None:
        self.vectors = Vectors(embedder)
        self.words = words
        self.cosine_weight = cosine_weight
        self.coverage_weight = coverage_weight

    @property
    def fingerprint(self) -> str:
        """Identifies what the prior depends on: the embedder's fingerprint and the two weights."""
        return f"{self.cosine_weight:g} x cosine({self.vectors.embedder.fingerprint}) + {self.coverage_weight:g} x coverage"

    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the prior of each (query, passage), in input order."""
        return list(map(sum, zip(*self.components(pairs).values(), strict=True)))

    def components(self, pairs: Sequence[Pair]) -> dict[str, list[float]]:
        """Return the two terms of each pair, each with its weight."""
        cosines = self.vectors.cosines(pairs)
        coverages = self.words.coverages([(query, passage.full_text) for query, passage in pairs])
        return {
            "cosine": [self.cosine_weight * cosine for cosine in cosines],
            "word overlap": [self.coverage_weight * coverage for coverage in coverages],
        }


class Words:
    """Word overlap: how much of a query a passage repeats in the same words. Ignores length and order."""

    def __init__(self, tokenizer_file: Path, rarity: np.ndarray) -> None:
        """`rarity`: float of shape (vocabulary,), the inverse passage frequency log((n + ½) / (df + ½)) of each token."""
        self.rarity = np.maximum(rarity.astype(np.float64), 0)
        self.tokenizer = load_tokenizer(tokenizer_file)

    def coverages(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return `coverage` for each (query, text), in input order."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        tokens = dict(zip(texts, self.tokens(texts), strict=True))
        return [self.coverage(tokens[query], tokens[text]) for query, text in pairs]

    def tokens(self, texts: Sequence[str]) -> list[frozenset[int]]:
        """Return the distinct tokens of each text, within the window."""
        encoded = self.tokenizer.encode_batch([clean_text(text) for text in texts], add_special_tokens=False)
        return [frozenset(row.ids[:MAX_TOKENS]) for row in encoded]

    def coverage(self, query: frozenset[int], text: frozenset[int]) -> float:
        """Return the share, 0 to 1, of the query's tokens that the text contains, each weighted by its rarity."""
        whole = self.rarity[sorted(query)].sum()
        return float(self.rarity[sorted(query & text)].sum() / whole) if whole else 0.0


def load_tokenizer(file: Path) -> Any:
    """Load the tokenizer without the padding and truncation that its file sets."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class Vectors:
    """Computes cosines of queries and passages, and rarely embeds a text twice.

    A passage's own vector is used if this embedder made it from the current text. Of other passages the last
    REMEMBERED vectors are kept.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def cosines(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the cosine of each (query, passage), in input order."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        of_query = dict(zip(queries, self.embedder.embed_queries(queries), strict=True))
        of_passages = self._of_passages([passage for _, passage in pairs])
        return [
            float(of_query[query] @ vector) for (query, _), vector in zip(pairs, of_passages, strict=True)
        ]

    def _of_passages(self, passages: Sequence[Passage]) -> list[np.ndarray]:
        """Return the passages' vectors: their own, remembered ones, or new ones, embedded in one call."""
        stored = [passage.vector(self.embedder.fingerprint) for passage in passages]
        texts = [passage.full_text for passage in passages]
        with self._lock:
            known = {text: self._remembered[text] for text in texts if text in self._remembered}
        new = {
            text: passage
            for text, passage, vector in zip(texts, passages, stored, strict=True)
            if vector is None and text not in known
        }
        if new:
            known.update(zip(new, self.embedder.embed_passages(list(new.values())), strict=True))
        self._remember(known)
        return [known[text] if vector is None else vector for text, vector in zip(texts, stored, strict=True)]

    def _remember(self, vectors: dict[str, np.ndarray]) -> None:
        with self._lock:
            for text, vector in vectors.items():
                self._remembered[text] = vector
                self._remembered.move_to_end(text)
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)

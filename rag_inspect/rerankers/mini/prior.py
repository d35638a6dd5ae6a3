"""The prior: what the embedding and the plain words already say of a pair, added to the cross-encoder's logit."""

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
"""Vectors kept of passages that come without one: 6 MB."""

MAX_TOKENS = 512
"""No word beyond the cross-encoder's own window counts."""


class Prior:
    """cosine_weight x cosine + coverage_weight x coverage, one number a pair.

    The cosine is that of the first stage's vectors of query and passage; coverage is `Words.coverage`.
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
        """Changes whenever the prior would: the embedder's own fingerprint, and the weights."""
        return f"{self.cosine_weight:g} x cosine({self.vectors.embedder.fingerprint}) + {self.coverage_weight:g} x coverage"

    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        """The prior of each (query, passage), in input order."""
        cosines = self.vectors.cosines(pairs)
        coverages = self.words.coverages([(query, passage.full_text) for query, passage in pairs])
        return [
            self.cosine_weight * cosine + self.coverage_weight * coverage
            for cosine, coverage in zip(cosines, coverages, strict=True)
        ]


class Words:
    """How much of a query a passage says in the same words, with no thought for length or order."""

    def __init__(self, tokenizer_file: Path, rarity: np.ndarray) -> None:
        """`rarity`: for each token of the vocabulary its inverse passage frequency, log((n + ½) / (df + ½))."""
        self.rarity = np.maximum(rarity.astype(np.float64), 0)
        self.tokenizer = plain_tokenizer(tokenizer_file)

    def coverages(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """From 0 to 1 for each (query, text): the share of the query's tokens, by rarity, that the text has."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        tokens = dict(zip(texts, self.tokens(texts), strict=True))
        return [self.coverage(tokens[query], tokens[text]) for query, text in pairs]

    def tokens(self, texts: Sequence[str]) -> list[frozenset[int]]:
        """The distinct tokens that each text has within the window."""
        encoded = self.tokenizer.encode_batch([clean_text(text) for text in texts], add_special_tokens=False)
        return [frozenset(row.ids[:MAX_TOKENS]) for row in encoded]

    def coverage(self, query: frozenset[int], text: frozenset[int]) -> float:
        """The same of one query and one text, by their `tokens`."""
        whole = self.rarity[sorted(query)].sum()
        return float(self.rarity[sorted(query & text)].sum() / whole) if whole else 0.0


def plain_tokenizer(file: Path) -> Any:
    """The tokenizer without the padding and truncation its file asks for."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class Vectors:
    """The embedder's vectors of queries and passages, none computed twice in a row.

    A passage that brings its vector along (made by the same embedder from the text as it is) is not embedded again;
    of the others the last few thousand vectors are remembered.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def cosines(self, pairs: Sequence[Pair]) -> list[float]:
        """One for each (query, passage), in input order."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        of_query = dict(zip(queries, self.embedder.embed_queries(queries), strict=True))
        of_passages = self._of_passages([passage for _, passage in pairs])
        return [
            float(of_query[query] @ vector) for (query, _), vector in zip(pairs, of_passages, strict=True)
        ]

    def _of_passages(self, passages: Sequence[Passage]) -> list[np.ndarray]:
        """Brought along, remembered, or embedded now, all in one go."""
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

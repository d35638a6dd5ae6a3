"""The prior: what the first stage's embedding already says of a pair, added to the cross-encoder's logit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np

from rag_inspect.types import Embedder, Passage

REMEMBERED = 4096
"""Vectors kept of passages that come without one: 6 MB."""


class CosinePrior:
    """weight x cosine of the embeddings of query and passage, one number a pair.

    A passage that brings its vector along (out of an index made by the same embedder) is not embedded again;
    of the others the last few thousand vectors are remembered.
    """

    def __init__(self, embedder: Embedder, weight: float) -> None:
        self.embedder = embedder
        self.weight = weight
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __call__(self, pairs: Sequence[tuple[str, Passage]]) -> list[float]:
        """The prior of each (query, passage), in input order."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        query_vectors = dict(zip(queries, self.embedder.embed_queries(queries), strict=True))
        passage_vectors = self._passage_vectors([passage for _, passage in pairs])
        return [
            self.weight * float(query_vectors[query] @ vector)
            for (query, _), vector in zip(pairs, passage_vectors, strict=True)
        ]

    def _passage_vectors(self, passages: Sequence[Passage]) -> list[np.ndarray]:
        """Brought along, remembered, or embedded now, all in one go."""
        stored = [self._stored(passage) for passage in passages]
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

    def _stored(self, passage: Passage) -> np.ndarray | None:
        """The vector the passage brings along, if this embedder made it."""
        stored = passage.embedding
        return stored.values if stored and stored.embedder == self.embedder.fingerprint else None

    def _remember(self, vectors: dict[str, np.ndarray]) -> None:
        with self._lock:
            for text, vector in vectors.items():
                self._remembered[text] = vector
                self._remembered.move_to_end(text)
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)

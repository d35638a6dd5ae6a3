"""An embedder without a model: it hashes words into a few dimensions, always in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.types import Passage, Reading


class FixedEmbedder:
    """Texts that share words have near vectors; `vectors` overrides the vector of a text. Records what it embeds."""

    spec = replace(EMBEDDERS["minilm"], key="fixed", model="tests/fixed", revision="1", backend="test")

    def __init__(
        self,
        vectors: Mapping[str, Sequence[float]] | None = None,
        dimensions: int = 16,
        fingerprint: str = "tests/fixed|1",
    ) -> None:
        self.vectors = vectors or {}
        self.dimensions = dimensions
        self.fingerprint = fingerprint
        self.embedded: list[str] = []  # passage ids in the order of the calls

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self._vector(text) for text in texts], dtype=np.float32)

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        self.embedded += [passage.passage_id for passage in passages]
        return self.embed_queries([passage.full_text for passage in passages])

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading]:
        """A word is a token, and all of them are read."""
        asked, *totals = (len(text.split()) for text in (query, *(p.full_text for p in passages)))
        return [Reading(total, total, query=Reading(asked, asked)) for total in totals]

    def _vector(self, text: str) -> np.ndarray:
        if text in self.vectors:
            vector = np.array(self.vectors[text], dtype=np.float64)
        else:
            vector = np.full(self.dimensions, 0.05)
            for word in text.lower().split():
                digest = sha256(word.encode("utf-8", "replace")).digest()
                vector[digest[0] % self.dimensions] += 1 if digest[1] % 2 else -1
        length = float(np.linalg.norm(vector))
        return vector / length if length else vector

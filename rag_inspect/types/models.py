"""Models: the rows that describe them and the protocols they fulfil."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from rag_inspect.types.corpus import Passage

Pair = tuple[str, Passage]
"""A query's text and a passage: what a cross-encoder reads jointly."""

Progress = Callable[[int, int, str], None]
"""on_progress(done, total, what): of bytes, passages or pairs, as `what` says."""

Source = Literal["builtin", "hub", "folder", "remote"]
"""Where a model comes from: with the package, from a model hub, out of a local folder, or behind an endpoint."""

FirstStageKind = Literal["dense", "bm25", "hybrid", "existing", "recorded"]
"""How a first stage finds its candidates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One row of a model table: what a model is, where it comes from, and at which revision it is pinned."""

    key: str
    kind: Literal["embedder", "reranker"]
    model: str
    revision: str
    source: Source
    backend: str
    parameters: int
    max_tokens: int
    languages: tuple[str, ...]
    licence: str
    score_name: str  # what its number is called: "cosine", "logit", "mini score"
    sigmoid: bool = False  # whether a sigmoid of that number means anything
    price_per_1000: float | None = (
        0.0  # US dollars per thousand searches; None: it costs, nobody said how much
    )
    summary: str = ""  # one line: how the number comes about
    card: Path | None = None  # the model card, where it comes with the package
    files: tuple[str, ...] = ()  # what a download needs, as hub file patterns
    download_bytes: int = 0
    query_prefix: str = ""
    passage_prefix: str = ""

    @property
    def costs_money(self) -> bool:
        return self.price_per_1000 != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """What finds the candidates, and what its score is called.

    `score_range` holds the ends of the score's scale (0 and 1 for a cosine of text), None where it has none.
    """

    key: str
    kind: FirstStageKind
    score_name: str
    embedder: ModelSpec | None = None
    score_range: tuple[float, float] | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it reads; empty where it reads any."""
        return self.embedder.languages if self.embedder else ()


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used now, whether its files are on disk, and, in `reason`, what stands in the way."""

    available: bool
    on_disk: bool
    reason: str = ""
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a passage a model reads beside a given query, in its own tokens."""

    read: int
    total: int

    @property
    def truncated(self) -> int:
        return self.total - self.read


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors: float32 of shape (n, dimensions), each of unit length."""

    spec: ModelSpec

    @property
    def fingerprint(self) -> str:
        """Changes whenever a vector would: model, revision, prefixes, precision, window."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray: ...

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray: ...


@runtime_checkable
class Reranker(Protocol):
    """Reads query and passage jointly. It only scores; `scoring.py` sorts."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever a score would: model, revision, precision, window, and whatever else it adds."""
        ...

    def warm_up(self, on_progress: Progress | None = None) -> None:
        """Load what scoring needs and score a first pair, once: whoever times scores does this before.

        Until then a reranker may hold only what its fingerprint and `readings` need. Raises ModelError.
        """
        ...

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """Raw scores (no sigmoid), one a passage, in input order."""
        ...

    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[dict[int, float]]:
        """The same for pairs of any queries, a batch at a time as index -> score; closing it stops the work."""
        ...

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """How much of each passage the model reads beside this query; None where it does not tell."""
        ...

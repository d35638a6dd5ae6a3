"""Models: the rows that describe them and the protocols they implement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from rag_inspect.types.corpus import Passage

Pair = tuple[str, Passage]
"""A query's text and a passage: what a cross-encoder reads jointly."""

Progress = Callable[[int, int, str], None]
"""on_progress(done, total, what); `what` says what is counted: bytes, passages or pairs."""

Source = Literal["builtin", "hub", "folder", "remote"]
"""Where a model comes from: the package, a model hub, a local folder or a remote endpoint."""

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
    score_name: str  # the name of its score: "cosine", "logit", "mini score"
    sigmoid: bool = False  # True if the sigmoid of that score means something
    price_per_1000: float | None = 0.0  # US dollars per 1,000 searches; None: paid, at an unknown price
    summary: str = ""  # one line: how the score is computed
    card: Path | None = None  # the model card, if the package has one
    files: tuple[str, ...] = ()  # what a download needs, as hub file patterns
    download_bytes: int = 0
    query_prefix: str = ""
    passage_prefix: str = ""

    @property
    def costs_money(self) -> bool:
        return self.price_per_1000 != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """Describes what finds the candidates, and names its score.

    `embedder` is what made its vectors, None if it uses none; `parts` are the first stages that a hybrid joins.
    `score_range` holds the ends of the scale that scores are plotted on (0 and 1 for a cosine); None if it has none.
    """

    key: str
    kind: FirstStageKind
    score_name: str
    embedder: ModelSpec | None = None
    score_range: tuple[float, float] | None = None
    parts: tuple[FirstStage, ...] = ()

    @property
    def reader(self) -> str:
        """The name of what reads texts up to a window: the embedder, else the first stage itself."""
        return self.embedder.key if self.embedder else self.key

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it reads; empty if it reads any."""
        return self.embedder.languages if self.embedder and self.kind == "dense" else ()


@dataclass(frozen=True, slots=True)
class Availability:
    """Tells whether a model can be used and whether it is on disk; `reason` explains what a user should know about it."""

    available: bool
    on_disk: bool
    reason: str = ""
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a text a model reads: `read` of `total`, in the model's tokens.

    A passage's reading has the reading of the `query` beside it, whose `unknown` tokens mean nothing to the model.
    characters: where in the passage's full text the tokens read end; None if it does not tell.
    """

    read: int
    total: int
    unknown: int = 0
    query: Reading | None = None
    characters: int | None = field(default=None, compare=False)  # a recorded search does not have it

    @property
    def truncated(self) -> int:
        return self.total - self.read

    @property
    def means_nothing(self) -> bool:
        """True if the model knows none of its tokens."""
        return self.unknown >= self.total


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors: float32 of shape (n, dimensions), each of unit length."""

    spec: ModelSpec

    @property
    def fingerprint(self) -> str:
        """Identifies all that a vector depends on: model, revision, prefixes, precision, window."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray: ...

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray: ...

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return how much of each passage, and of the query, the vectors stand for; None if it does not tell."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Reads query and passage together. It only scores; `scoring.py` sorts."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def fingerprint(self) -> str:
        """Identifies all that a score depends on: model, revision, precision, window, and a prior if there is one."""
        ...

    def warm_up(self, on_progress: Progress | None = None) -> None:
        """Load what scoring needs and score a first pair, once. Call it before you time scores. Raises ModelError.

        Before that, a reranker may hold only what `fingerprint` and `readings` need.
        """
        ...

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """Return raw scores (no sigmoid), one per passage, in input order."""
        ...

    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[dict[int, float]]:
        """Yield index -> raw score, batch by batch, for pairs of any queries. Closing the iterator stops the work."""
        ...

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return how much of each passage, and of the query beside it, the model reads; None if it does not tell."""
        ...

    def components(self, pairs: Sequence[Pair]) -> Mapping[str, Sequence[float]]:
        """Return what is added to the model's own score: name -> one number per pair; empty if nothing is."""
        ...

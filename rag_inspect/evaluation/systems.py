"""What an evaluation compares: systems, each a first stage, alone or followed by a reranker; and how long one takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote

from rag_inspect.types import FirstStage, FirstStageKind, ModelSpec

THEN = ">>"
"""Stands between a first stage and the reranker that follows it, as PyTerrier writes it; no model's key has it."""

P95_QUERIES = 20  # the fewest timed queries of which a 95th percentile says anything

SystemKind = Literal["first_stage", "reranked", "fused"]


def join_key(first_stage: str, reranker: str | None = None) -> str:
    """Return the key of a system: `minilm`, or `minilm>>mini`."""
    return first_stage if reranker is None else f"{first_stage}{THEN}{reranker}"


def split_key(system: str) -> tuple[str, str | None]:
    """Return (first stage, reranker) of a system's key; None without a reranker."""
    first_stage, _, reranker = system.partition(THEN)
    return first_stage, reranker or None


def list_keys(first_stages: Sequence[str], rerankers: Sequence[str]) -> list[str]:
    """List the systems of these: each first stage, then it with each reranker."""
    return [join_key(first, reranker) for first in first_stages for reranker in (None, *rerankers)]


def name_file(system: str) -> str:
    """Return the part of a file's name that stands for a system: `minilm.mini` for `minilm>>mini`."""
    return quote(system.replace(THEN, ".").replace(":", "-").replace("+", "-"), safe="")


@dataclass(frozen=True)
class Model:
    """A model as a run records it."""

    key: str
    model: str
    revision: str
    parameters: int = 0
    max_tokens: int = 0
    languages: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: ModelSpec) -> Model:
        return cls(spec.key, spec.model, spec.revision, spec.parameters, spec.max_tokens, spec.languages)

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "model": self.model,
            "revision": self.revision,
            "parameters": self.parameters,
            "max_tokens": self.max_tokens,
            "languages": list(self.languages),
        }


@dataclass(frozen=True, kw_only=True)
class FirstStageSystem:
    """The first stage as a run records it; `score_name` is the name of its scores, such as cosine."""

    key: str
    kind: FirstStageKind
    score_name: str
    embedder: Model | None = None

    @classmethod
    def of(cls, stage: FirstStage) -> FirstStageSystem:
        embedder = Model.of(stage.embedder) if stage.embedder else None
        return cls(key=stage.key, kind=stage.kind, score_name=stage.score_name, embedder=embedder)

    @property
    def model(self) -> Model:
        """The embedder under the first stage's key; without an embedder, the model is the kind of first stage."""
        return replace(self.embedder, key=self.key) if self.embedder else Model(self.key, self.kind, "")

    def to_json(self) -> dict[str, Any]:
        embedder = self.embedder.to_json() if self.embedder else None
        return {"key": self.key, "kind": self.kind, "score_name": self.score_name, "embedder": embedder}


@dataclass(frozen=True)
class System:
    """A first stage, alone or followed by a reranker; or, with a `fused_key`, a weighted sum of scores of both or of two.

    A fused system costs no forward pass; see fusion.py.
    """

    first_stage: FirstStageSystem
    reranker: Model | None = None
    fused_key: str = ""

    @property
    def key(self) -> str:
        return self.fused_key or join_key(self.first_stage.key, self.reranker.key if self.reranker else None)

    @property
    def kind(self) -> SystemKind:
        return "fused" if self.fused_key else "reranked" if self.reranker else "first_stage"

    @property
    def model(self) -> Model:
        """The reranker, or the first stage's model where there is none."""
        return self.reranker or self.first_stage.model

    def to_json(self) -> dict[str, Any]:
        """The model's own facts under the system's key."""
        named = {
            "key": self.key,
            "first_stage": self.first_stage.key,
            "reranker": self.reranker.key if self.reranker else None,
            "kind": self.kind,
        }
        return {**self.model.to_json(), **named}


@dataclass(frozen=True)
class Latency:
    """How long one query takes, in ms: the median of `queries` queries that were timed one at a time.

    depth_ms: at depth 1, 2, …; empty if not measured. p50 and p95: at full depth; p95 is None below P95_QUERIES.
    A system's latency includes its first stage. source: "sample" (timed after scoring), "batches" (shares of batches
    of many queries; only in replays made before November 25, 2026) or "unknown".
    """

    depth_ms: tuple[float, ...] = ()
    p50: float | None = None
    p95: float | None = None
    queries: int = 0
    source: Literal["batches", "sample", "unknown"] = "unknown"

    def after(self, first: Latency) -> Latency:
        """Return the latency of a first stage followed by the reranker that this one was measured on."""
        if self.p50 is None or first.p50 is None:
            return Latency()
        before = first.p50
        return Latency(
            depth_ms=tuple(before + ms for ms in self.depth_ms),
            p50=before + self.p50,
            p95=None if self.p95 is None else before + self.p95,
            queries=min(self.queries, first.queries),
            source=self.source,
        )

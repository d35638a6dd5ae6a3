"""Pydantic models of a replay, with limits on every part. We write version 2 and can still read version 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    FailFast,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rag_inspect.evaluation.outcome import MAX_CARRIED, FirstStageSystem, System
from rag_inspect.evaluation.replay_errors import explain, refuse
from rag_inspect.metrics import MAX_CUTOFF, MAX_CUTOFFS
from rag_inspect.types import FirstStageKind

MAX_QUERIES, MAX_DEPTH, MAX_RERANKERS, MAX_TEXT, MAX_ID = 200_000, 200, 16, 200_000, 1_000
_LARGEST_GRADE = 1_000
_Value = TypeVar("_Value")
_Key = TypeVar("_Key")


def _differ(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("has repeats; expected each once")
    return values


def _rise(steps: list[float]) -> list[float]:
    if steps != sorted(steps):
        raise ValueError("falls; expected latency to rise with depth, or to stay the same")
    return steps


def _fall(scores: list[float]) -> list[float]:
    if scores != sorted(scores, reverse=True):
        raise ValueError("rises; expected the highest score first")
    return scores


def _hold_gold(grades: dict[str, int]) -> dict[str, int]:
    if not any(grade > 0 for grade in grades.values()):
        raise ValueError("has no grade above 0; expected at least one gold passage")
    return grades


def _match(pattern: str, expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"is {text[:40]!r}; expected {expected}")
        return text

    return AfterValidator(check)


def _at_most(most: int) -> BeforeValidator:
    """Limit a dict before pydantic checks its values: it would keep an error for every wrong one."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"has {len(value):,} entries; expected at most {most:,}")
        return value

    return BeforeValidator(check)


Count = Annotated[int, Field(ge=0, le=10**12)]
Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Words = Annotated[str, Field(max_length=MAX_TEXT)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
Short = Annotated[str, Field(max_length=50)]
Name = Annotated[
    str, Field(max_length=MAX_ID), _match(r"[^/\\\x00-\x1f]{1,200}", "a name without slashes, up to 200 long")
]
Label = Annotated[
    str,
    Field(max_length=MAX_ID),
    _match(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, dots and dashes"),
]
ScoreName = Annotated[
    str,
    Field(max_length=MAX_ID),
    _match(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", "a score's name, such as cosine"),
]
Sha256 = Annotated[str, Field(max_length=MAX_ID), _match("[0-9a-f]{64}", "a sha256")]
Moment = Annotated[
    str,
    Field(max_length=MAX_ID),
    _match(
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?([+-]\d\d:\d\d|Z)?)?",
        "a time as 2026-11-25T16:43:00+00:00, or nothing",
    ),
]
Scores = Annotated[list[Number], Field(max_length=MAX_DEPTH), FailFast()]
Table = Annotated[dict[_Key, _Value], _at_most(50)]
Grades = Annotated[
    dict[Id, Annotated[int, Field(ge=-_LARGEST_GRADE, le=_LARGEST_GRADE)]],
    _at_most(100_000),
    AfterValidator(_hold_gold),
]


class Part(BaseModel, strict=True, extra="ignore"):
    """One object of the document, with strict JSON types; unknown keys are ignored."""


class SystemPart(Part):
    key: Label
    model: Annotated[str, Field(max_length=300)]
    revision: Annotated[str, Field(max_length=200)]
    parameters: Annotated[int, Field(ge=0, le=10**13)]
    max_tokens: Annotated[int, Field(ge=0, le=10**7)]
    languages: Annotated[list[Short], Field(max_length=200), FailFast()]

    def system(self) -> System:
        return System(**{**dict(self), "languages": tuple(self.languages)})


class FirstStagePart(Part):
    key: Label
    kind: FirstStageKind
    score_name: ScoreName
    embedder: SystemPart | None

    def system(self) -> FirstStageSystem:
        embedder = self.embedder.system() if self.embedder else None
        return FirstStageSystem(key=self.key, kind=self.kind, score_name=self.score_name, embedder=embedder)


class CorpusPart(Part):
    name: Name
    fingerprint: Sha256
    passages: Annotated[int, Field(ge=0, le=10**9)]
    languages: Annotated[list[Short], Field(max_length=20), FailFast()]
    language_source: Literal["card", "text", ""]


class SettingsPart(Part):
    top_k: Annotated[int, Field(ge=1, le=MAX_DEPTH)]
    top_n: Annotated[int, Field(ge=1, le=MAX_DEPTH)]
    cutoffs: Annotated[
        list[Annotated[int, Field(ge=1, le=MAX_CUTOFF)]],
        Field(min_length=1, max_length=MAX_CUTOFFS),
        FailFast(),
    ]

    @field_validator("top_n")
    @classmethod
    def _within_top_k(cls, top_n: int, info: ValidationInfo) -> int:
        if top_n > info.data.get("top_k", MAX_DEPTH):
            raise ValueError(f"is {top_n}; expected at most top_k ({info.data['top_k']})")
        return top_n


class LatencyPart(Part):
    depth_ms: Annotated[list[Milliseconds], Field(max_length=MAX_DEPTH), FailFast(), AfterValidator(_rise)]
    p50: Milliseconds | None
    p95: Milliseconds | None
    queries: Annotated[int, Field(ge=0, le=MAX_QUERIES)]
    source: Literal["batches", "sample", "unknown"]

    @model_validator(mode="after")
    def _whole(self) -> LatencyPart:
        if self.source == "unknown":
            if self.depth_ms or self.p50 is not None or self.p95 is not None:
                raise ValueError("has numbers, but its source is unknown; expected none")
        elif self.p50 is None or self.p95 is None or self.p50 > self.p95:
            raise ValueError(f"has p50 {self.p50} and p95 {self.p95}; expected two numbers, p95 the larger")
        elif not self.queries:
            raise ValueError("was timed on 0 queries; expected at least 1")
        return self


class PassagePart(Part):
    title: Words
    text: Annotated[str, Field(max_length=10**7)]


class QueryPart(Part):
    """One query: its candidates as indices into `passage_ids`, and all scores in their order."""

    query_id: Id
    text: Text
    qrels: Grades
    candidates: Annotated[
        list[Annotated[int, Field(ge=0, le=10**8)]],
        Field(max_length=MAX_DEPTH),
        FailFast(),
        AfterValidator(_differ),
    ]
    logits: Annotated[dict[Label, Scores], _at_most(MAX_RERANKERS)]
    scores: Annotated[Scores, AfterValidator(_fall)]


class QueryPart1(QueryPart):
    scores: Annotated[Scores, AfterValidator(_fall), Field(alias="cosines")]


class Replay(Part):
    """The parts that both versions have; `first_stage` and `queries` differ."""

    corpus: CorpusPart
    split: Name
    rerankers: Annotated[list[SystemPart], Field(min_length=1, max_length=MAX_RERANKERS), FailFast()]
    settings: SettingsPart
    created: Moment
    versions: Table[Id, Annotated[str, Field(max_length=100)]]
    notes: Annotated[list[Annotated[str, Field(max_length=1_000)]], Field(max_length=100), FailFast()]
    counts: Table[Id, Count]
    latency: Annotated[dict[Id, LatencyPart], _at_most(MAX_RERANKERS + 1)]
    passage_ids: Annotated[
        list[Id], Field(min_length=1, max_length=MAX_QUERIES * MAX_DEPTH), FailFast(), AfterValidator(_differ)
    ]
    passages: Annotated[dict[Any, Any], _at_most(MAX_CARRIED)]  # `_read_passages` checks those it uses
    queries: Annotated[list[Any], FailFast()]


class Replay2(Replay):
    scores_name: ClassVar = "scores"
    first_stage: FirstStagePart
    queries: Annotated[list[QueryPart], Field(min_length=1, max_length=MAX_QUERIES), FailFast()]


class Replay1(Replay):
    """Written until November 26, 2026: every first stage was an embedder, and its scores were cosines."""

    scores_name: ClassVar = "cosines"
    embedder: SystemPart
    queries: Annotated[list[QueryPart1], Field(min_length=1, max_length=MAX_QUERIES), FailFast()]

    @property
    def first_stage(self) -> FirstStagePart:
        key = self.embedder.key
        return FirstStagePart(key=key, kind="dense", score_name="cosine", embedder=self.embedder)


MODELS: Mapping[int, type[Replay1 | Replay2]] = {1: Replay1, 2: Replay2}

_Part = TypeVar("_Part", bound=Part)


def read_part(model: type[_Part], value: Any, name: str, place: tuple[str, ...] = ()) -> _Part:
    """Read the value with this model. Raises InputError with the first place that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
    at = (*place, *wrong["loc"])
    if wrong["type"] == "missing":
        refuse(name, at[:-1], f'has no "{at[-1]}"', "a replay as eval --out writes it")
    found, _, expected = explain(wrong).partition("; expected ")
    refuse(name, at, found, expected)

"""Pydantic models of the parts of a replay that all versions share, with limits on everything."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

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

from rag_inspect.corpora.candidates import LARGEST_SCORE
from rag_inspect.evaluation.machine import Machine
from rag_inspect.evaluation.replay_errors import explain, refuse
from rag_inspect.evaluation.systems import P95_QUERIES, FirstStageSystem, Latency, Model
from rag_inspect.metrics import MAX_CUTOFF, MAX_CUTOFFS
from rag_inspect.options import GOAL, GOLD_GRADE, MARGIN, MAX_BUDGET_MS, MAX_GRADE, Aim
from rag_inspect.types import FirstStageKind

MAX_QUERIES, MAX_DEPTH, MAX_TEXT, MAX_ID = 200_000, 200, 200_000, 1_000
MAX_RERANKERS = 16
_Value = TypeVar("_Value")
_Key = TypeVar("_Key")


def check_distinct(values: list[Any]) -> list[Any]:
    """Return the values. Raises ValueError if one is there twice."""
    if len(set(values)) < len(values):
        raise ValueError("has repeats; expected each once")
    return values


def check_rise(steps: list[float]) -> list[float]:
    """Return the steps. Raises ValueError if one is lower than the one before."""
    if steps != sorted(steps):
        raise ValueError("falls; expected latency to rise with depth, or to stay the same")
    return steps


def check_fall(scores: list[float]) -> list[float]:
    """Return the scores. Raises ValueError if one is higher than the one before."""
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


def at_most(most: int) -> BeforeValidator:
    """Limit a dict before pydantic checks its values: it would keep an error for every wrong one."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"has {len(value):,} entries; expected at most {most:,}")
        return value

    return BeforeValidator(check)


Count = Annotated[int, Field(ge=0, le=10**12)]
Number = Annotated[float, Field(ge=-LARGEST_SCORE, le=LARGEST_SCORE, allow_inf_nan=False)]
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
StageLabel = Annotated[
    str,
    Field(max_length=MAX_ID),
    _match(r"[A-Za-z0-9][^/\\<>\x00-\x1f\x7f]{0,199}", "a letter or digit, then no slash, < or >"),
]
ScoreName = Annotated[
    str,
    Field(max_length=MAX_ID),
    _match(r"[^\x00-\x1f\x7f]{1,64}", "a score's name, such as cosine"),
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
Table = Annotated[dict[_Key, _Value], at_most(50)]
Grades = Annotated[
    dict[Id, Annotated[int, Field(ge=-MAX_GRADE, le=MAX_GRADE)]],
    at_most(100_000),
    AfterValidator(_hold_gold),
]


class Part(BaseModel, strict=True, extra="ignore"):
    """One object of the document, with strict JSON types; unknown keys are ignored."""


class ModelPart(Part):
    key: Label
    model: Annotated[str, Field(max_length=300)]
    revision: Annotated[str, Field(max_length=200)]
    parameters: Annotated[int, Field(ge=0, le=10**13)]
    max_tokens: Annotated[int, Field(ge=0, le=10**7)]
    languages: Annotated[list[Short], Field(max_length=200), FailFast()]

    def read(self) -> Model:
        return Model(**{**dict(self), "languages": tuple(self.languages)})


class FirstStagePart(Part):
    key: StageLabel
    kind: FirstStageKind
    score_name: ScoreName
    embedder: ModelPart | None

    def read(self) -> FirstStageSystem:
        embedder = self.embedder.read() if self.embedder else None
        return FirstStageSystem(key=self.key, kind=self.kind, score_name=self.score_name, embedder=embedder)


class FusedPart(Part):
    key: StageLabel
    embedder: ModelPart


class CorpusPart(Part):
    name: Name
    fingerprint: Sha256
    passages: Annotated[int, Field(ge=0, le=10**9)]
    languages: Annotated[list[Short], Field(max_length=20), FailFast()]
    language_source: Literal["card", "text", ""]


class AimPart(Part):
    goal: Literal["first_answer", "top_n"] = GOAL
    margin: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = MARGIN
    budget_ms: Annotated[float, Field(ge=1, le=MAX_BUDGET_MS, allow_inf_nan=False)] | None = None

    def read(self) -> Aim:
        return Aim(**dict(self))


class SettingsPart(Part):
    aim: AimPart | None = None  # not before version 3
    gold_grade: Annotated[int, Field(ge=1, le=MAX_GRADE)] = GOLD_GRADE  # not before version 3
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
    depth_ms: Annotated[
        list[Milliseconds], Field(max_length=MAX_DEPTH), FailFast(), AfterValidator(check_rise)
    ]
    p50: Milliseconds | None
    p95: Milliseconds | None
    queries: Annotated[int, Field(ge=0, le=MAX_QUERIES)]
    source: Literal["batches", "sample", "unknown"]

    @model_validator(mode="after")
    def _whole(self) -> LatencyPart:
        if self.source == "unknown":
            if self.depth_ms or self.p50 is not None or self.p95 is not None:
                raise ValueError("has numbers, but its source is unknown; expected none")
        elif self.p50 is None or (self.p95 is not None and self.p50 > self.p95):
            raise ValueError(f"has p50 {self.p50} and p95 {self.p95}; expected two numbers, p95 the larger")
        elif not self.queries:
            raise ValueError("was timed on 0 queries; expected at least 1")
        return self

    def read(self) -> Latency:
        """Of fewer than P95_QUERIES there is no p95, whatever an older version wrote."""
        if self.source == "unknown":
            return Latency()
        p95 = self.p95 if self.queries >= P95_QUERIES else None
        return Latency(tuple(self.depth_ms), self.p50, p95, self.queries, self.source)


class MachinePart(Part):
    cpu: Annotated[str, Field(max_length=200)]
    cores: Annotated[int, Field(ge=1, le=10**6)]
    threads: Annotated[int, Field(ge=1, le=10**6)]
    device: Annotated[str, Field(max_length=50)]
    load: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] | None

    def read(self) -> Machine:
        return Machine(**dict(self))


class PassagePart(Part):
    title: Words
    text: Annotated[str, Field(max_length=10**7)]


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

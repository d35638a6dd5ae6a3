"""Pydantic models of a replay's versions. We write version 3 and can still read versions 1 and 2."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, FailFast, Field

from rag_inspect.evaluation.outcome import MAX_CARRIED
from rag_inspect.evaluation.replay_parts import (
    MAX_DEPTH,
    MAX_QUERIES,
    MAX_RERANKERS,
    CorpusPart,
    Count,
    FirstStagePart,
    FusedPart,
    Grades,
    Id,
    Label,
    LatencyPart,
    MachinePart,
    ModelPart,
    Moment,
    Name,
    Part,
    Scores,
    SettingsPart,
    StageLabel,
    Table,
    Text,
    at_most,
    check_distinct,
    check_fall,
)
from rag_inspect.evaluation.slices import MOST_TAGS
from rag_inspect.evaluation.systems import join_key
from rag_inspect.options import MAX_STAGES


class CandidatesPart(Part):
    """What one first stage found for a query, as indices into `passage_ids`, and all scores in their order."""

    candidates: Annotated[
        list[Annotated[int, Field(ge=0, le=10**8)]],
        Field(max_length=MAX_DEPTH),
        FailFast(),
        AfterValidator(check_distinct),
    ]
    logits: Annotated[dict[Label, Scores], at_most(MAX_RERANKERS)]
    scores: Annotated[Scores, AfterValidator(check_fall)]


Tags = Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=MOST_TAGS)]
FusedGrades = list[Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=3, max_length=3)]]


class QueryPart(Part):
    """What every version says of a query; each has its own place for the candidates."""

    query_id: Id
    text: Text
    qrels: Grades

    @property
    @abstractmethod
    def found(self) -> Sequence[CandidatesPart]:
        """The candidates of each first stage."""

    @property
    def tagged(self) -> Sequence[str]:
        """The tags of the query."""
        return ()

    @property
    def graded(self) -> FusedGrades:
        """The judged passages of the fused rankings: [place in WEIGHTS, rank, grade] of each."""
        return []

    @property
    def fused_end(self) -> int:
        """How many passages the fused rankings have, at most MAX_DEPTH."""
        return MAX_DEPTH

    @abstractmethod
    def place(self, at: int) -> tuple[int | str, ...]:
        """Return where the candidates of the first stage with this number are."""


class QueryPart3(QueryPart):
    fused: Annotated[FusedGrades, Field(max_length=50_000)]
    fused_length: Annotated[int, Field(ge=0, le=MAX_DEPTH)] = MAX_DEPTH
    tags: Tags
    stages: Annotated[list[CandidatesPart], Field(min_length=1, max_length=MAX_STAGES), FailFast()]

    @property
    def found(self) -> Sequence[CandidatesPart]:
        return self.stages

    @property
    def tagged(self) -> Sequence[str]:
        return self.tags

    @property
    def graded(self) -> FusedGrades:
        return self.fused

    @property
    def fused_end(self) -> int:
        return self.fused_length

    def place(self, at: int) -> tuple[int | str, ...]:
        return ("stages", at)


class QueryPart2(CandidatesPart, QueryPart):
    """A query of the one first stage that there was."""

    @property
    def found(self) -> Sequence[CandidatesPart]:
        return [self]

    def place(self, at: int) -> tuple[int | str, ...]:
        return ()


class QueryPart1(QueryPart2):
    scores: Annotated[Scores, AfterValidator(check_fall), Field(alias="cosines")]


class Replay(Part):
    """The parts that all versions have."""

    scores_name: ClassVar = "scores"
    corpus: CorpusPart
    split: Name
    rerankers: Annotated[list[ModelPart], Field(min_length=1, max_length=MAX_RERANKERS), FailFast()]
    settings: SettingsPart
    created: Moment
    versions: Table[Id, Annotated[str, Field(max_length=100)]]
    notes: Annotated[list[Annotated[str, Field(max_length=1_000)]], Field(max_length=100), FailFast()]
    counts: Annotated[dict[Id, Count], at_most(200)]  # three for each model
    latency: Annotated[dict[Id, LatencyPart], at_most(MAX_STAGES * (MAX_RERANKERS + 1))]
    passage_ids: Annotated[
        list[Id],
        Field(min_length=1, max_length=MAX_QUERIES * MAX_DEPTH),
        FailFast(),
        AfterValidator(check_distinct),
    ]
    passages: Annotated[dict[Any, Any], at_most(MAX_CARRIED)]  # `_read_passages` checks those it uses

    def name_latency(self, key: str) -> str:
        """Return the system whose latency has this key."""
        return key


class Replay3(Replay):
    fused: FusedPart | None
    reach: Annotated[
        dict[Id, Annotated[dict[StageLabel, Annotated[int, Field(ge=1, le=10**9)] | None], at_most(20)]],
        at_most(MAX_QUERIES),
    ]
    first_stages: Annotated[list[FirstStagePart], Field(min_length=1, max_length=MAX_STAGES), FailFast()]
    machine: MachinePart | None
    queries: Annotated[list[QueryPart3], Field(min_length=1, max_length=MAX_QUERIES), FailFast()]


class OneStage(Replay):
    """What was written until November 26, 2026: one first stage; a reranker's key stood for its system."""

    machine: ClassVar = None
    fused: ClassVar = None

    @property
    @abstractmethod
    def first_stages(self) -> list[FirstStagePart]:
        """The one first stage, in a list."""

    @property
    def reach(self) -> dict[str, dict[str, int | None]]:
        return {}

    def name_latency(self, key: str) -> str:
        [first] = self.first_stages
        return key if key == first.key else join_key(first.key, key)


class Replay2(OneStage):
    first_stage: FirstStagePart
    queries: Annotated[list[QueryPart2], Field(min_length=1, max_length=MAX_QUERIES), FailFast()]

    @property
    def first_stages(self) -> list[FirstStagePart]:
        return [self.first_stage]


class Replay1(OneStage):
    """Every first stage was an embedder, and its scores were cosines."""

    scores_name: ClassVar = "cosines"
    embedder: ModelPart
    queries: Annotated[list[QueryPart1], Field(min_length=1, max_length=MAX_QUERIES), FailFast()]

    @property
    def first_stages(self) -> list[FirstStagePart]:
        key = self.embedder.key
        return [FirstStagePart(key=key, kind="dense", score_name="cosine", embedder=self.embedder)]


AnyReplay = Replay1 | Replay2 | Replay3
MODELS: Mapping[int, type[AnyReplay]] = {1: Replay1, 2: Replay2, 3: Replay3}

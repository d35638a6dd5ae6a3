"""The options of searches and evaluations: all defaults and checks are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rag_inspect.errors import InputError, ModelError
from rag_inspect.metrics import GOLD_GRADE, metrics_at, parse_cutoffs
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import find_first_stage
from rag_inspect.types import ModelSpec
from rag_inspect.words import describe_value, format_count

MAX_TOP_K = 200
EMBEDDER = FIRST_STAGE = "minilm"
TOP_K = 20
TOP_N = 5
CUTOFFS = (1, 5, 10)
LONGEST_QUERY = 200_000  # characters; a query past what a model reads is cut, one far past it refused
PUBLIC_QUERY = 10_000  # characters; the page's longest request, see PUBLIC_BODY in ui/guard.py
PUBLIC_WORK = 100_000  # characters of the query times top_k: what one search may cost in public mode
PUBLIC_PAIRS = 25_000  # queries, candidates, first stages and rerankers multiplied: what one evaluation may cost in public mode
SPLIT = "test"
MAX_GRADE = 1000
MAX_STAGES, MAX_NAME = 16, 200  # first stages of one evaluation; characters of the name of one
Goal = Literal["first_answer", "top_n"]
GOALS: tuple[Goal, ...] = ("first_answer", "top_n")
GOAL: Goal = "first_answer"
MARGIN = 0.02  # a smaller difference of the primary metric is none that matters
MAX_BUDGET_MS = 3_600_000.0


def check_depths(top_k: object, top_n: object) -> None:
    """Raise InputError unless 1 <= top_n <= top_k <= MAX_TOP_K; both must be whole numbers."""
    for name, value in (("top_k", top_k), ("top_n", top_n)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_TOP_K:
            raise InputError(
                f"{name} is {describe_value(value)}; expected a whole number from 1 to {MAX_TOP_K}"
            )
    if isinstance(top_k, int) and isinstance(top_n, int) and top_n > top_k:
        raise InputError(f"top_n cannot exceed top_k ({top_n} > {top_k}); lower top_n or raise top_k")


def check_model(kind: str, key: object, table: Mapping[str, ModelSpec]) -> None:
    """Raise ModelError, which lists the known names, unless the table has this one."""
    if not isinstance(key, str) or key not in table:
        quoted = key[:80] if isinstance(key, str) else describe_value(key)
        raise ModelError(f'unknown {kind} "{quoted}"; choose one of {", ".join(table)}')


def check_text(name: str, value: object, expected: str = "a string") -> None:
    """Raise InputError unless this is a string."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {describe_value(value)}; expected {expected}")


def check_length(options: SearchOptions) -> None:
    """Raise InputError if this search is too much work for public mode, where everybody shares one machine."""
    length, most = len(options.query), min(PUBLIC_QUERY, PUBLIC_WORK // options.top_k)
    if length > most:
        raise InputError(
            f"the query has {length:,} characters; with top_k {options.top_k} expected at most {most:,} here: "
            "shorten the query or lower top_k"
        )


def check_explained(query: str, pairs: int) -> None:
    """Raise InputError if an explanation, which may score so many pairs of this query, is too much work for public mode."""
    if len(query) > (most := PUBLIC_WORK // pairs):
        raise InputError(
            f"the query has {len(query):,} characters; to explain a passage expected at most {most:,} here: shorten it"
        )


def check_pairs(options: EvalOptions, queries: int, passages: int) -> None:
    """Raise InputError if this evaluation, of so many queries and passages, is too much work for public mode.

    Pairs in the score cache count too, and a pair that two first stages find counts twice: whether a request is
    refused then depends on nothing but the request.
    """
    stages, rerankers = len(options.first_stages), max(1, len(options.rerankers))
    pairs = queries * min(options.top_k, passages) * stages * rerankers
    if pairs > PUBLIC_PAIRS:
        raise InputError(
            f"the evaluation has {pairs:,} pairs ({format_count(queries)}, top_k {options.top_k}, "
            f"{format_count(stages, 'first stage', 'first stages')}, "
            f"{format_count(rerankers, 'reranker', 'rerankers')}); expected at most {PUBLIC_PAIRS:,} here: "
            "lower top_k, choose fewer first stages or rerankers, or another split"
        )


def check_switch(name: str, value: object) -> None:
    """Raise InputError unless this is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {str(value)[:60]!r}; expected true or false")


def split_names(text: object, what: str = "reranker") -> tuple[str, ...]:
    """Split a comma-separated list of models into names, each once, in order; () for None or "".

    Raises InputError if this is not a string, or has no names ("," means that a variable was unset).
    """
    if text is None or text == "":
        return ()
    check_text(what, text, "a string, with commas between names")
    names = tuple(dict.fromkeys(name for part in str(text).split(",") if (name := part.strip())))
    if not names:
        raise InputError(f"{str(text)[:40]!r} has no names; give one or more {what}s, comma-separated")
    return names


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The options of a search; `reranker` None means the default one.

    `query_id` names one of the corpus's queries; its text may then be left out of `query` ("").

    Checked on creation: raises InputError or ModelError. The library checks that the corpus exists.
    """

    query: str
    corpus: str
    query_id: str | None = None
    first_stage: str = FIRST_STAGE  # a name that `find_first_stage` knows
    reranker: str | None = None
    top_k: int = TOP_K
    top_n: int | None = None  # None becomes TOP_N, or top_k if that is smaller
    keep_identical_ids: bool = False  # whether a passage with the judged query's own id may be a candidate
    gold_grade: int = GOLD_GRADE

    def __post_init__(self) -> None:
        check_text("query", self.query)
        if self.query_id is not None:
            check_text("query_id", self.query_id)
        if len(self.query) > LONGEST_QUERY:
            raise InputError(
                f"the query has {len(self.query):,} characters; expected at most {LONGEST_QUERY:,}"
            )
        check_text("corpus", self.corpus)
        object.__setattr__(self, "first_stage", find_first_stage(self.first_stage).key)
        if self.reranker is not None:
            check_model("reranker", self.reranker, RERANKERS)
        check_switch("keep_identical_ids", self.keep_identical_ids)
        check_gold_grade(self.gold_grade)
        object.__setattr__(self, "top_n", _settle_top_n(self.top_k, self.top_n))

    @property
    def kept(self) -> int:
        """top_n, as an int."""
        return self.top_n or TOP_N


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What an evaluation decides by. Checked on creation: raises InputError.

    goal: "top_n" if the top n go to a model (recall@n decides), "first_answer" if somebody reads the first answer
    (MRR@n decides). margin: a smaller difference of that metric does not matter. budget_ms: the most that a query may
    take; None for no limit.
    """

    goal: Goal = GOAL
    margin: float = MARGIN
    budget_ms: float | None = None

    def __post_init__(self) -> None:
        if self.goal not in GOALS:
            raise InputError(f"goal is {describe_value(self.goal)}; expected {' or '.join(GOALS)}")
        check_number("margin", self.margin, 0.0, 0.5)
        if self.budget_ms is not None:
            check_number("budget_ms", self.budget_ms, 1.0, MAX_BUDGET_MS)


def check_gold_grade(value: object) -> None:
    """Raise InputError unless this is a whole number from 1 to MAX_GRADE."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_GRADE:
        raise InputError(
            f"gold_grade is {describe_value(value)}; expected a whole number from 1 to {MAX_GRADE}"
        )


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise InputError unless this is a number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} is {describe_value(value)}; expected a number from {low:g} to {high:g}")


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """The options of an evaluation; no `first_stages` or no `rerankers` means the default one.

    Checked on creation: raises InputError or ModelError. Whether corpus and split exist is checked when they are
    read. `metrics` are computed in addition to those at the cutoffs.
    """

    corpus: str
    first_stages: Sequence[str] = (FIRST_STAGE,)
    rerankers: Sequence[str] = ()
    top_k: int = TOP_K
    top_n: int | None = None  # as in SearchOptions
    cutoffs: str | Sequence[int] = CUTOFFS  # becomes a tuple
    split: str = SPLIT
    gold_grade: int = GOLD_GRADE
    metrics: Sequence[str] = ()
    aim: Aim = field(default_factory=Aim)
    keep_identical_ids: bool = False  # as in SearchOptions

    def __post_init__(self) -> None:
        check_text("corpus", self.corpus)
        check_text("split", self.split)
        _check_names("first stages", self.first_stages)
        _check_names("rerankers", self.rerankers)
        for key in self.rerankers:
            check_model("reranker", key, RERANKERS)
        check_switch("keep_identical_ids", self.keep_identical_ids)
        stages = dict.fromkeys(find_first_stage(key).key for key in self.first_stages)
        for key in stages:
            # "<" or ">": it would not be told apart from a first stage and a reranker.
            if set("<>") & set(key) or not key.isprintable() or len(key) > MAX_NAME:
                raise InputError(
                    f'first stage "{key[:80]}" has a name with < or >, with control characters, or of over {MAX_NAME} '
                    "characters; give its file another name"
                )
        if len(stages) > MAX_STAGES:
            raise InputError(f"there are {len(stages)} first stages; expected at most {MAX_STAGES}")
        object.__setattr__(self, "first_stages", tuple(stages) or (FIRST_STAGE,))
        object.__setattr__(self, "rerankers", tuple(dict.fromkeys(self.rerankers)))
        object.__setattr__(self, "top_n", _settle_top_n(self.top_k, self.top_n))
        object.__setattr__(self, "cutoffs", parse_cutoffs(self.cutoffs))
        check_gold_grade(self.gold_grade)
        _check_names("metrics", self.metrics)
        metrics_at(self.depths, self.metrics)

    @property
    def kept(self) -> int:
        """top_n, as an int."""
        return self.top_n or TOP_N

    @property
    def depths(self) -> tuple[int, ...]:
        """The cutoffs, as ints."""
        return parse_cutoffs(self.cutoffs)


def _check_names(what: str, names: object) -> None:
    """Raise InputError unless this is a list."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(f"{what} are {describe_value(names)}; expected a list of names")


def _settle_top_n(top_k: int, top_n: int | None) -> int:
    check_depths(top_k, 1)
    settled = min(TOP_N, top_k) if top_n is None else top_n
    check_depths(top_k, settled)
    return settled

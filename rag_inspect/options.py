"""What a search and an evaluation can be asked for: each default and each check stands here, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import InputError, ModelError
from rag_inspect.metrics import metrics_at, parse_cutoffs
from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import ModelSpec

MAX_TOP_K = 200
EMBEDDER = "minilm"
TOP_K = 20
TOP_N = 5


def check_depths(top_k: object, top_n: object) -> None:
    """Raises InputError unless 1 <= top_n <= top_k <= MAX_TOP_K, whole numbers."""
    for name, value in (("top_k", top_k), ("top_n", top_n)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_TOP_K:
            found = repr(value)[:60] if not isinstance(value, int) or abs(value) < 10**18 else "a huge number"
            raise InputError(f"{name} is {found}; expected a whole number from 1 to {MAX_TOP_K}")
    if isinstance(top_k, int) and isinstance(top_n, int) and top_n > top_k:
        raise InputError(
            f"top_n {top_n} is more than top_k {top_k}; only candidates can be kept, so lower top_n or raise top_k"
        )


def check_model(kind: str, key: object, table: Mapping[str, ModelSpec]) -> None:
    """Raises ModelError, which lists the names there are, unless the table has this one."""
    if not isinstance(key, str) or key not in table:
        raise ModelError(f'no {kind} "{str(key)[:80]}"; there are {", ".join(table)}')


def check_text(name: str, value: object) -> None:
    """Raises InputError unless this is a string."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {str(value)[:60]}; expected a string")


def split_names(text: str | None) -> tuple[str, ...]:
    """The names in a list with commas, each once, in order; blanks are dropped."""
    check_text("reranker", text or "" if text is None or isinstance(text, str) else text)
    return tuple(dict.fromkeys(name for part in (text or "").split(",") if (name := part.strip())))


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """One query through both stages; without a reranker, the workbench's default one."""

    query: str
    corpus: str
    embedder: str = EMBEDDER
    reranker: str | None = None
    top_k: int = TOP_K
    top_n: int = TOP_N

    def check(self) -> None:
        """Raises InputError or ModelError; whether the corpus is there is the library's to say."""
        check_text("query", self.query)
        check_text("corpus", self.corpus)
        check_depths(self.top_k, self.top_n)
        check_model("embedder", self.embedder, EMBEDDERS)
        if self.reranker is not None:
            check_model("reranker", self.reranker, RERANKERS)


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """An eval set through both stages; top_n is at most top_k where none is given."""

    corpus: str
    rerankers: Sequence[str] = ()
    embedder: str = EMBEDDER
    top_k: int = TOP_K
    top_n: int | None = None
    cutoffs: Sequence[int] = (1, 5, 10)
    split: str = "test"
    metrics: Sequence[str] = ()

    @property
    def kept(self) -> int:
        """top_n, or its default."""
        return min(TOP_N, self.top_k) if self.top_n is None else self.top_n

    def check(self) -> None:
        """Raises InputError or ModelError; whether corpus and split are there is theirs to say."""
        check_text("corpus", self.corpus)
        check_text("split", self.split)
        check_depths(self.top_k, 1)
        check_depths(self.top_k, self.kept)
        check_model("embedder", self.embedder, EMBEDDERS)
        for key in self.rerankers:
            check_model("reranker", key, RERANKERS)
        metrics_at(parse_cutoffs(self.cutoffs), self.metrics)

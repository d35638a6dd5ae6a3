"""The first stages by name: the table, and how a name such as `hybrid:nomic+bm25` is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import ModelError
from rag_inspect.retrieval.bm25 import BM25_STAGE
from rag_inspect.retrieval.dense import describe_dense
from rag_inspect.types import FirstStage
from rag_inspect.words import describe_value

DEFAULT_PARTS = ("minilm", "bm25")
_DENSE = {key: describe_dense(spec) for key, spec in EMBEDDERS.items()}
_SINGLE = {**_DENSE, BM25_STAGE.key: BM25_STAGE}


def describe_hybrid(key: str, parts: Sequence[FirstStage]) -> FirstStage:
    """Describe the first stage that joins these parts; its embedder is that of the first part that has one."""
    embedder = next((part.embedder for part in parts if part.embedder), None)
    return FirstStage(key=key, kind="hybrid", score_name="rrf", embedder=embedder, parts=tuple(parts))


FIRST_STAGES: Mapping[str, FirstStage] = {
    **_SINGLE,
    "hybrid": describe_hybrid("hybrid", [_SINGLE[key] for key in DEFAULT_PARTS]),
}
"""The first stages that every corpus has, by name."""


def find_first_stage(key: object) -> FirstStage:
    """Return the first stage with this name; `hybrid:A+B` and `recorded[:NAME]` are names too.

    Whether a corpus has recorded candidates is only known when they are opened. Raises ModelError, which lists the names.
    """
    if isinstance(key, str):
        kind, colon, rest = key.partition(":")
        if key in FIRST_STAGES:
            return FIRST_STAGES[key]
        if kind == "recorded" and (rest or not colon):
            return FirstStage(key=key, kind="recorded", score_name="recorded score")
        parts = tuple(dict.fromkeys(rest.split("+")))
        if kind == "hybrid" and len(parts) > 1 and all(part in _SINGLE for part in parts):
            name = "hybrid" if parts == DEFAULT_PARTS else f"hybrid:{'+'.join(parts)}"
            return describe_hybrid(name, [_SINGLE[part] for part in parts])
    quoted = f'"{key[:80]}"' if isinstance(key, str) else describe_value(key)
    raise ModelError(
        f"unknown first stage {quoted}; choose one of {', '.join(FIRST_STAGES)}, "
        "hybrid:A+B of these, or recorded:NAME where a corpus has candidates/NAME.trec"
    )

"""First stages: FIRST_STAGES lists them. The only package that imports chromadb."""

from __future__ import annotations

from collections.abc import Mapping

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.retrieval.chroma import DamagedIndexError, connect, delete_unused
from rag_inspect.retrieval.dense import DenseRetriever, describe_dense
from rag_inspect.retrieval.engine import Engine
from rag_inspect.types import FirstStage

__all__ = [
    "FIRST_STAGES",
    "DamagedIndexError",
    "DenseRetriever",
    "Engine",
    "connect",
    "delete_unused",
    "describe_dense",
]

FIRST_STAGES: Mapping[str, FirstStage] = {key: describe_dense(spec) for key, spec in EMBEDDERS.items()}

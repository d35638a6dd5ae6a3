"""First stages: FIRST_STAGES lists them. The only package that imports chromadb."""

from __future__ import annotations

from rag_inspect.retrieval.bm25 import Bm25Retriever, open_bm25
from rag_inspect.retrieval.chroma import DamagedIndexError, connect, delete_unused
from rag_inspect.retrieval.dense import DenseRetriever, describe_dense
from rag_inspect.retrieval.engine import Engine
from rag_inspect.retrieval.hybrid import HybridRetriever
from rag_inspect.retrieval.recorded import RecordedRetriever
from rag_inspect.retrieval.stages import FIRST_STAGES, describe_hybrid, find_first_stage

__all__ = [
    "FIRST_STAGES",
    "Bm25Retriever",
    "DamagedIndexError",
    "DenseRetriever",
    "Engine",
    "HybridRetriever",
    "RecordedRetriever",
    "connect",
    "delete_unused",
    "describe_dense",
    "describe_hybrid",
    "find_first_stage",
    "open_bm25",
]

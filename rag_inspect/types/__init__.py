"""The shared types: frozen values that the layers pass to each other, and the protocols that models implement."""

from rag_inspect.types.corpus import (
    Corpus,
    CorpusCard,
    Embedding,
    Passage,
    Qrels,
    Query,
    fold_text,
    hash_text,
)
from rag_inspect.types.models import (
    Availability,
    Embedder,
    FirstStage,
    FirstStageKind,
    ModelSpec,
    Pair,
    Progress,
    Reading,
    Reranker,
    Source,
)
from rag_inspect.types.ranking import VERDICTS, Hit, Ranking, RankMove, Verdict
from rag_inspect.types.search import Candidates, Reranking, Retriever, read_search, write_search

__all__ = [
    "VERDICTS",
    "Availability",
    "Candidates",
    "Corpus",
    "CorpusCard",
    "Embedder",
    "Embedding",
    "FirstStage",
    "FirstStageKind",
    "Hit",
    "ModelSpec",
    "Pair",
    "Passage",
    "Progress",
    "Qrels",
    "Query",
    "RankMove",
    "Ranking",
    "Reading",
    "Reranker",
    "Reranking",
    "Retriever",
    "Source",
    "Verdict",
    "fold_text",
    "hash_text",
    "read_search",
    "write_search",
]

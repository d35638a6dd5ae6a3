"""rag-inspect: what a cross-encoder reranker does to an embedding search, why, and whether it pays."""

__version__ = "0.1.0"

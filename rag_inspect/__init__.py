"""rag-inspect: what a cross-encoder reranker does to an embedding search, why, and whether it pays."""

__version__ = "0.2.0.dev0"

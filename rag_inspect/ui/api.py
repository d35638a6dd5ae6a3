"""The named API for gradio_client: the CLI's operations, with its arguments and its JSON."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.metrics import parse_cutoffs
from rag_inspect.types import Search
from rag_inspect.ui.controls import SEARCHES
from rag_inspect.ui.errors import shown
from rag_inspect.workbench import DEFAULT_EMBEDDER, Workbench


def build(bench: Workbench) -> None:
    """Add /search and /eval to the app that is being built."""

    def search(
        query: str,
        corpus: str,
        embedder: str = DEFAULT_EMBEDDER,
        reranker: str | None = None,
        top_k: int = 20,
        top_n: int = 5,
    ) -> dict[str, Any]:
        """One query through both stages: candidates, reranked order with moves, gold, verdict and timings."""
        moments = bench.search(query, corpus, embedder, reranker, top_k, top_n)
        *_, end = (moment for moment in moments if isinstance(moment, Search))
        return end.to_json()

    def evaluate(
        corpus: str,
        reranker: str | None = None,
        embedder: str = DEFAULT_EMBEDDER,
        top_k: int = 20,
        cutoffs: str = "1,5,10",
        split: str = "test",
        top_n: int | None = None,
    ) -> dict[str, Any]:
        """A corpus's eval set through both stages; `reranker` may name several, with commas between them."""
        keys = [key.strip() for key in (reranker or "").split(",") if key.strip()]
        moments = bench.evaluate(corpus, keys, embedder, top_k, top_n, parse_cutoffs(cutoffs), split)
        *_, end = (moment for moment in moments if isinstance(moment, Evaluation))
        return end.to_json()

    gr.api(shown(search, words=str), api_name="search", **SEARCHES)
    gr.api(shown(evaluate, words=str), api_name="eval", concurrency_id="eval", concurrency_limit=2)

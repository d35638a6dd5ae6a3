"""The named API for gradio_client: the CLI's operations, with its arguments and its JSON."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rag_inspect.types import Search
from rag_inspect.ui.errors import shown
from rag_inspect.workbench import DEFAULT_EMBEDDER, Workbench


def build(bench: Workbench) -> None:
    """Add /search to the app that is being built."""

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

    gr.api(shown(search), api_name="search", concurrency_id="model")

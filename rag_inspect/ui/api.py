"""The named API for gradio_client: the CLI's operations, with its arguments and its JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from rag_inspect.errors import InputError
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.metrics import parse_cutoffs
from rag_inspect.types import Reranking, write_search
from rag_inspect.ui.controls import SEARCHES
from rag_inspect.ui.errors import shown
from rag_inspect.workbench import DEFAULT_EMBEDDER, Workbench

TELL_SECONDS = 1.0


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
        *_, end = (moment for moment in moments if isinstance(moment, Reranking))
        return write_search([end])

    def evaluate(
        corpus: str,
        reranker: str | None = None,
        embedder: str = DEFAULT_EMBEDDER,
        top_k: int = 20,
        cutoffs: str = "1,5,10",
        split: str = "test",
        top_n: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A corpus's eval set through both stages; `reranker` may name several, with commas between them.

        What counts is the last value; those before it say how far it is, and let it end when the client leaves.
        """
        if not isinstance(reranker, str | None):
            raise InputError(
                f"reranker is {str(reranker)[:60]}; expected a string, with commas between several"
            )
        keys = [key.strip() for key in (reranker or "").split(",") if key.strip()]
        told = time.monotonic()
        for moment in bench.evaluate(corpus, keys, embedder, top_k, top_n, parse_cutoffs(cutoffs), split):
            if isinstance(moment, Evaluation):
                yield moment.to_json()
            elif time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                yield {"progress": str(moment)}

    gr.api(shown(search, words=str), api_name="search", **SEARCHES)
    gr.api(shown(evaluate, words=str), api_name="eval", concurrency_id="eval", concurrency_limit=2)

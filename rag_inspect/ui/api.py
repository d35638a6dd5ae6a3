"""The named API for gradio_client: the CLI's operations, with its arguments and its JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.options import CUTOFFS, EMBEDDER, SPLIT, TOP_K, EvalOptions, SearchOptions, split_names
from rag_inspect.types import Reranking, write_search
from rag_inspect.ui.controls import SEARCHES
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.guard import Listeners
from rag_inspect.workbench import Workbench

REPORT_SECONDS = 1.0  # between two progress values


def build(bench: Workbench, listeners: Listeners) -> None:
    """Add /search and /eval to the app. An evaluation to which nobody listens ends."""
    _build_search(bench)
    _build_eval(bench, listeners)


def _build_search(bench: Workbench) -> None:
    def search(
        query: str,
        corpus: str,
        embedder: str = EMBEDDER,
        reranker: str | None = None,
        top_k: int = TOP_K,
        top_n: int | None = None,
        keep_identical_ids: bool = False,
        query_id: str | None = None,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Run one query through both stages: candidates, reranked order with moves, gold, verdict and timings.

        `query_id` names a query of the corpus; `query` may then be "".
        """
        options = SearchOptions(
            query=query,
            corpus=corpus,
            query_id=query_id or None,
            embedder=embedder,
            reranker=None if reranker == "" else reranker,
            top_k=top_k,
            top_n=top_n,
            keep_identical_ids=keep_identical_ids,
        )
        moments = bench.search(options, _name_caller(request))
        *_, end = (moment for moment in moments if isinstance(moment, Reranking))
        return write_search([end])

    gr.api(show_errors(search, encode=str), api_name="search", **SEARCHES)


def _build_eval(bench: Workbench, listeners: Listeners) -> None:
    def evaluate(
        corpus: str,
        reranker: str | None = None,
        embedder: str = EMBEDDER,
        top_k: int = TOP_K,
        cutoffs: str = ",".join(map(str, CUTOFFS)),
        split: str = SPLIT,
        top_n: int | None = None,
        keep_identical_ids: bool = False,
        request: gr.Request | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Run a corpus's eval set through both stages. `reranker` takes one name or several, comma-separated.

        The last value is the result; earlier values report progress. If the client disconnects, the evaluation stops.
        """
        options = EvalOptions(
            corpus=corpus, rerankers=split_names(reranker), embedder=embedder, top_k=top_k, top_n=top_n,
            cutoffs=cutoffs, split=split, keep_identical_ids=keep_identical_ids,
        )  # fmt: skip
        reported, caller = time.monotonic(), _name_caller(request)
        for moment in bench.evaluate(options, stopped=listeners.watch(caller), who=caller):
            if isinstance(moment, Evaluation):
                yield moment.to_json()
            elif time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                yield {"progress": str(moment)}

    gr.api(show_errors(evaluate, encode=str), api_name="eval", concurrency_limit=None)


def _name_caller(request: gr.Request | None) -> str:
    """Return what tells this client from others: the session that each makes up for itself."""
    return (request.session_hash if request else None) or ""

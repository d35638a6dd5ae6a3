"""The named API for gradio_client: the CLI's operations, with its arguments and its JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
from gradio.utils import get_function_description

from rag_inspect.admission import Asker
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.explain import write_explanation
from rag_inspect.options import (
    CUTOFFS,
    FIRST_STAGE,
    GOAL,
    GOLD_GRADE,
    MARGIN,
    SPLIT,
    TOP_K,
    Aim,
    EvalOptions,
    Goal,
    SearchOptions,
    check_text,
    split_names,
)
from rag_inspect.types import Explanation, Reranking, write_search
from rag_inspect.ui.askers import read_asker
from rag_inspect.ui.controls import SEARCHES
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.guard import Listeners
from rag_inspect.workbench import Workbench

PARAMETERS = {
    "query": "The text to search for; it may be empty if query_id is given.",
    "corpus": "The name of a listed corpus or, on the user's own machine, the path of a folder in BEIR's layout.",
    "passage": "The id of the passage, as the corpus has it.",
    "against": "The id of another passage, explained the same way; none means no other.",
    "first_stage": "What finds the candidates: an embedder such as minilm, bm25, hybrid, hybrid:A+B or recorded:NAME.",
    "reranker": "The reranker, such as mini or base; none means base if it is on disk, else mini.",
    "top_k": "How many candidates the first stage finds and the reranker scores, from 1 to 200.",
    "top_n": "How many reranked passages go on to the answer step; none means 5, or top_k if that is smaller.",
    "keep_identical_ids": "True to keep a candidate that has the id of its judged query, which is the query itself.",
    "split": "Which judgements to evaluate against; test means the file qrels/test.tsv of the corpus.",
    "gold_grade": "The lowest grade of gold, from 1; TREC DL counts from 2.",
    "query_id": "The id of one of the corpus's queries; tells queries of one text apart.",
}
"""What the parameters of an operation are, where its own docstring does not say it."""
REPORT_SECONDS = 1.0  # between two progress values


def build(bench: Workbench, listeners: Listeners) -> None:
    """Add /search, /explain and /eval to the app. An evaluation to which nobody listens ends."""
    _build_search(bench)
    _build_explain(bench)
    _build_eval(bench, listeners)


def _build_search(bench: Workbench) -> None:
    def search(
        query: str,
        corpus: str,
        first_stage: str = FIRST_STAGE,
        reranker: str | None = None,
        top_k: int = TOP_K,
        top_n: int | None = None,
        keep_identical_ids: bool = False,
        query_id: str | None = None,
        gold_grade: int = GOLD_GRADE,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Run one query through both stages: candidates, reranked order with moves, gold, verdict and timings."""
        end = _search(
            bench, request, query=query, corpus=corpus, first_stage=first_stage, reranker=reranker, top_k=top_k,
            top_n=top_n, keep_identical_ids=keep_identical_ids, query_id=query_id, gold_grade=gold_grade,
        )  # fmt: skip
        return write_search([end])

    _offer(search, "search", **SEARCHES)


def _build_explain(bench: Workbench) -> None:
    def explain(
        query: str,
        corpus: str,
        passage: str,
        first_stage: str = FIRST_STAGE,
        reranker: str | None = None,
        top_k: int = TOP_K,
        top_n: int | None = None,
        keep_identical_ids: bool = False,
        query_id: str | None = None,
        against: str | None = None,
        gold_grade: int = GOLD_GRADE,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Say where a passage is for a query, what keeps it there, and what each sentence does to its score."""
        check_text("passage", passage)
        end = _search(
            bench, request, query=query, corpus=corpus, first_stage=first_stage, reranker=reranker, top_k=top_k,
            top_n=top_n, keep_identical_ids=keep_identical_ids, query_id=query_id, gold_grade=gold_grade,
        )  # fmt: skip
        who = _ask(bench, request)
        location = bench.locate(end, passage, who, corpus=corpus)
        explain_one = partial(_explain, bench, end, who, corpus)
        explained = explain_one(passage) if location.cause != "not_in_corpus" else None
        return write_explanation(end, location, explained, explain_one(against) if against else None)

    _offer(explain, "explain", **SEARCHES)


def _explain(bench: Workbench, search: Reranking, who: Asker, corpus: str, passage_id: str) -> Explanation:
    moments = bench.explain(search, passage_id, who, corpus=corpus)
    *_, end = (each for each in moments if isinstance(each, Explanation))
    return end


def _search(bench: Workbench, request: gr.Request | None, **asked: Any) -> Reranking:
    """Search to the end. An empty text stands for no reranker or no query_id: some clients cannot send None."""
    absent = {name: None for name in ("reranker", "query_id") if asked[name] == ""}
    moments = bench.search(SearchOptions(**asked | absent), _ask(bench, request))
    *_, end = (moment for moment in moments if isinstance(moment, Reranking))
    return end


def _ask(bench: Workbench, request: gr.Request | None) -> Asker:
    return read_asker(request, on_space=bench.settings.on_space)


def _build_eval(bench: Workbench, listeners: Listeners) -> None:
    def evaluate(
        corpus: str,
        reranker: str | None = None,
        first_stages: str = FIRST_STAGE,
        top_k: int = TOP_K,
        cutoffs: str = ",".join(map(str, CUTOFFS)),
        split: str = SPLIT,
        top_n: int | None = None,
        keep_identical_ids: bool = False,
        goal: Goal = GOAL,
        margin: float = MARGIN,
        budget_ms: float | None = None,
        gold_grade: int = GOLD_GRADE,
        request: gr.Request | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Run a corpus's eval set through first stages and rerankers: metrics, intervals, verdicts, latency, advice.

        The last value is the result; earlier values report progress. If the client disconnects, the evaluation stops.

        Parameters:
            corpus: The name of a listed corpus with qrels or, on the user's own machine, the path of such a BEIR folder.
            reranker: One reranker, or several separated by commas; none means base if it is on disk, else mini.
            first_stages: One first stage, such as minilm, or several separated by commas; each is also shown alone.
            top_k: How many candidates each first stage finds for a query and each reranker scores, from 1 to 200.
            cutoffs: The k of recall@k, MRR@k and the other metrics, separated by commas.
            keep_identical_ids: True to keep candidates that have the id of their query, as ArguAna's and Quora's do.
            goal: Who gets the top n: first_answer if somebody reads the first one (MRR decides), top_n for a model (recall).
            margin: A difference of that metric that does not matter, from 0 to 0.5; the decision is made against it.
            budget_ms: The most milliseconds that a query may take; none means no limit.
        """
        options = EvalOptions(
            corpus=corpus, first_stages=split_names(first_stages, "first stage"), rerankers=split_names(reranker),
            top_k=top_k, top_n=top_n, cutoffs=cutoffs, split=split, gold_grade=gold_grade,
            keep_identical_ids=keep_identical_ids,
            aim=Aim(goal=goal, margin=margin, budget_ms=budget_ms),
        )  # fmt: skip
        yield from _report(bench, options, listeners, _ask(bench, request))

    _offer(evaluate, "eval", concurrency_limit=None)


def _report(
    bench: Workbench, options: EvalOptions, listeners: Listeners, caller: Asker
) -> Iterator[dict[str, Any]]:
    """Evaluate while somebody listens; yield the progress now and then, and last the result."""
    reported = time.monotonic()
    for moment in bench.evaluate(options, stopped=listeners.watch(caller.name), who=caller):
        if isinstance(moment, Evaluation):
            yield moment.to_json()
        elif time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            yield {"progress": str(moment)}


def _offer(operation: Callable[..., Any], name: str, **limits: Any) -> None:
    """Add an operation to the API, each parameter with its name and description: its docstring's, else PARAMETERS'."""
    dependency = gr.api(show_errors(operation, encode=str), api_name=name, **limits)
    _, described, _ = get_function_description(operation)
    app = gr.context.get_blocks_context()
    assert app is not None
    for component_id, (parameter, words) in zip(dependency["inputs"], described.items(), strict=False):
        component: Any = app.blocks[component_id]  # the last parameter, the request, has none
        component.label = parameter
        component._api_info = component._api_info | {"additional_description": words or PARAMETERS[parameter]}

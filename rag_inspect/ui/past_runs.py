"""Past runs, reopened and compared two at a time, and replays of one's own or of others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from rag_inspect.errors import InputError
from rag_inspect.evaluation import runs
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.exports import read_replay
from rag_inspect.sessions import Visitor
from rag_inspect.ui import eval_results
from rag_inspect.ui.errors import shown
from rag_inspect.ui.eval_page import QUIET, Page
from rag_inspect.views.evaluation import comparison_html
from rag_inspect.views.formats import format_date
from rag_inspect.views.sentences import aside_html
from rag_inspect.words import counted
from rag_inspect.workbench import Workbench


def choices(bench: Workbench, visitor: object) -> Any:
    """The list of past runs this browser may see, anew."""
    found = []
    for run in bench.past_runs(Visitor.from_browser(visitor)):
        keys = ", ".join(system["key"] for system in run["systems"][1:])
        label = f"{format_date(run['created'])} · {run['corpus']} · {keys} · k {run['top_k']} · {counted(run['queries'])}"
        found.append((label, run["run_id"]))
    return gr.update(choices=found)


def wire(page: Page, bench: Workbench, app: gr.Blocks) -> None:
    """Open, Compare and the drop of a replay; the list is read when the page is, and a new browser gets a name."""

    def reopen(chosen: list[str] | None, visitor: object) -> dict[Any, Any]:
        if not chosen:
            raise InputError("no past run is chosen; choose one to open")
        return opened(bench.past_run(chosen[0], Visitor.from_browser(visitor)))

    def compare(chosen: list[str] | None, visitor: object) -> str:
        if not chosen or len(chosen) != 2:
            raise InputError("two past runs are needed; choose two to compare")
        seer = Visitor.from_browser(visitor)
        before, after = (bench.past_run(run_id, seer).document for run_id in sorted(chosen))
        shared = runs.shared_rerankers(before, after) or [""]  # none: each run's first
        return "".join(comparison_html(runs.compare_runs(before, after, key, key)) for key in shared)

    def replay(path: str | None) -> dict[Any, Any]:
        return replayed(read_replay(Path(path))) if path else {}

    def replayed(outcome: Outcome) -> dict[Any, Any]:
        return opened(Evaluation(outcome, assess(outcome)))

    def opened(evaluation: Evaluation) -> dict[Any, Any]:
        document = evaluation.document
        words = f"Opened: {document.corpus}, evaluated {format_date(document.created)}; no model was used."
        return eval_results.drawn(page, evaluation) | {page.progress: aside_html(words)}

    named = app.load(lambda name: name or Visitor.new().visitor_id, page.visitor, page.visitor, **QUIET)
    named.then(lambda name: choices(bench, name), page.visitor, page.past, **QUIET)
    page.open_past.click(shown(reopen), [page.past, page.visitor], [page.progress, *page.results], **QUIET)
    page.compare.click(shown(compare), [page.past, page.visitor], page.comparison, **QUIET)
    page.replay.upload(shown(replay), page.replay, [page.progress, *page.results], **QUIET)
    if bench.replay is not None:
        app.load(partial(replayed, bench.replay), None, [page.progress, *page.results], **QUIET)

"""Past runs: open one or compare two; and replay files, which open without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from rag_inspect.errors import InputError
from rag_inspect.evaluation import runs
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.exports import read_replay
from rag_inspect.options import GOLD_GRADE, SPLIT
from rag_inspect.sessions import Visitor
from rag_inspect.ui import eval_results
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.eval_page import QUIET, Page
from rag_inspect.ui.eval_settings import describe_misfit, form_values, settings_of, write_settings
from rag_inspect.views.evaluation import comparison_html
from rag_inspect.views.formats import format_date
from rag_inspect.views.sentences import aside_html
from rag_inspect.words import format_count
from rag_inspect.workbench import Workbench

SHOW_RESULTS = (
    "() => document.querySelector('#eval-progress').scrollIntoView({ behavior: 'smooth', block: 'start' })"
)
KEEP_NAME = "async (name) => [name || await window.riVisitor()]"


def update_choices(bench: Workbench, visitor: object) -> Any:
    """Update the list of past runs that this browser may see."""
    seen = bench.past_runs(Visitor.from_browser(visitor))
    return gr.update(choices=list(zip(label_runs(seen), (run["run_id"] for run in seen), strict=True)))


def label_runs(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Label each run; those that would read the same also say the second, then the end of their ids."""
    labels = [_label_run(run, run["created"][:16]) for run in summaries]
    for finer in (lambda run: run["created"][:19], lambda run: f"{run['created'][:19]} {run['run_id'][-4:]}"):
        counts = Counter(labels)
        labels = [
            label if counts[label] == 1 else _label_run(run, finer(run))
            for run, label in zip(summaries, labels, strict=True)
        ]
    return labels


def _label_run(run: Mapping[str, Any], when: str) -> str:
    parts = (
        ", ".join(
            dict.fromkeys(
                system[part] for system in run["systems"] if system[part] and system["kind"] != "fused"
            )
        )
        for part in ("first_stage", "reranker")
    )
    stages = " → ".join(parts)
    grade = "" if run["gold_grade"] == GOLD_GRADE else f", gold from grade {run['gold_grade']}"
    depths = f"top_k {run['top_k']}, top_n {run['top_n']}{grade}"
    split = "" if run["split"] == SPLIT else f" ({run['split']})"
    return f"{when.replace('T', ' ')} · {run['corpus']}{split} · {stages} · {depths} · {format_count(run['queries'])}"


def wire(page: Page, bench: Workbench, app: gr.Blocks) -> None:
    """Connect Open, Compare and the upload of a replay; a page that loads gets the list, a new browser gets an id."""

    def reopen(chosen: list[str] | None, visitor: object) -> dict[Any, Any]:
        if not chosen:
            raise InputError("choose a past run to open")
        return show_run(bench.past_run(chosen[0], Visitor.from_browser(visitor)))

    def compare(chosen: list[str] | None, visitor: object) -> str:
        if not chosen or len(chosen) != 2:
            raise InputError("choose two past runs to compare")
        asking = Visitor.from_browser(visitor)
        before, after = (bench.past_run(run_id, asking).document for run_id in sorted(chosen))
        # "": without a system in common, compare the first reranked one of each run.
        shared = runs.list_shared_systems(before, after) or [""]
        return "".join(comparison_html(runs.compare_runs(before, after, key, key)) for key in shared)

    def replay(path: str | None) -> dict[Any, Any]:
        return assess_replay(read_replay(Path(path))) if path else page.unchanged

    def assess_replay(outcome: Outcome) -> dict[Any, Any]:
        return show_run(Evaluation(outcome, assess(outcome)))

    def show_run(evaluation: Evaluation) -> dict[Any, Any]:
        document, settings = evaluation.document, settings_of(evaluation.document)
        words = f"Opened {document.corpus}, evaluated {format_date(document.created)} (no model needed)."
        words += describe_misfit(bench, settings)
        drawn = eval_results.draw_results(page, evaluation, form_values(bench, settings))
        return drawn | write_settings(page, bench, settings) | {page.progress: aside_html(words)}

    # Through the server: by then the browser's other states are here, too; who has a name may have a job.
    named = app.load(lambda name: name, page.visitor, page.visitor, js=KEEP_NAME, **QUIET)
    named.then(lambda name: update_choices(bench, name), page.visitor, page.past, **QUIET)
    shown = [page.progress, *page.settings, *page.results]
    opened = page.open_past.click(show_errors(reopen), [page.past, page.visitor], shown, **QUIET)
    opened.success(None, None, None, js=SHOW_RESULTS, **QUIET)
    page.compare.click(show_errors(compare), [page.past, page.visitor], page.comparison, **QUIET)
    page.replay.upload(show_errors(replay), page.replay, shown, **QUIET)
    if bench.replay is not None:
        app.load(partial(assess_replay, bench.replay), None, shown, **QUIET)

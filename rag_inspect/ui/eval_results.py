"""Draw the results of the Evaluate tab, and redraw parts of them for another system, verdict or cutoff."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from rag_inspect.errors import RagInspectError
from rag_inspect.evaluation import EvalProgress
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.document import EvaluationDocument, sort_worst_first
from rag_inspect.evaluation.jobs import Job
from rag_inspect.exports import name_scores, write_all
from rag_inspect.options import GOAL, MARGIN, Aim
from rag_inspect.ui.controls import watch_choice
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.eval_page import ALL, CHOSEN, QUIET, Page
from rag_inspect.ui.eval_settings import form_values, settings_of
from rag_inspect.views import eval_figures as figures
from rag_inspect.views.evaluation import (
    advice_html,
    caption_html,
    ceiling_html,
    notes_html,
    queue_html,
    running_html,
    slices_html,
    table_html,
)
from rag_inspect.views.report import report_html
from rag_inspect.views.sentences import aside_html
from rag_inspect.workbench import Workbench


def draw_results(page: Page, evaluation: Evaluation, of: list[Any] | None = None) -> dict[Any, Any]:
    """Draw a finished evaluation into `page.results`.

    While the form says something else than `of` (default: than when they came), they are greyed.
    """
    document = evaluation.document
    keys, shown = [system.key for system in document.reranked], document.decision.system
    return {
        page.advice: caption_html(document, of) + advice_html(document),
        page.goal: gr.update(value=document.aim.goal, visible=True),
        page.margin: gr.update(value=document.aim.margin, visible=True),
        page.budget: gr.update(value=document.aim.budget_ms, visible=True),
        page.ceiling: ceiling_html(document),
        page.table: table_html(document) + slices_html(document),
        page.frontier: gr.update(value=figures.frontier(document), visible=True),
        page.system: gr.update(choices=keys, value=shown, visible=len(keys) > 1),
        page.notes: notes_html(document),
        page.files: _write_files(evaluation),
        page.evaluation: evaluation,
        page.followed: CHOSEN,
    } | _draw_system(page, evaluation, shown)


def clear_results(page: Page) -> dict[Any, Any]:
    """Empty `page.results`, which show an earlier evaluation."""
    words = [page.advice, page.ceiling, page.table, page.queue, page.threshold, page.notes]
    states = {page.evaluation: None, page.followed: CHOSEN}
    rest = [part for part in page.results if part not in words and part not in states]
    return dict.fromkeys(words, "") | {part: gr.update(visible=False) for part in rest} | states


def draw_progress(job: Job, progress: EvalProgress) -> tuple[str, str]:
    """Draw the table and the verdict queue of a running job from the queries that are done."""
    table = running_html(progress.means, progress.queries_done, progress.queries)
    rows = list(job.rows)
    if not rows:
        return table, ""
    key = next(iter(rows[0].verdicts))
    return table, queue_html(job.settings, key, "", sort_worst_first(rows, key))


def _list_verdicts(document: EvaluationDocument, key: str) -> Any:
    """List the verdicts of this system with their counts; "all verdicts" is chosen."""
    counts = Counter(row.verdicts[key] for row in document.per_query)
    choices = [
        (f"{name.replace('_', ' ')} ({counts[name]})", name) for name in document.verdicts if counts[name]
    ]
    return gr.update(choices=[(f"{ALL} ({document.queries})", ALL), *choices], value=ALL, visible=True)


def _draw_system(page: Page, evaluation: Evaluation, key: str) -> dict[Any, Any]:
    """Draw the results of one reranked system: verdicts, queue, flow and threshold lab."""
    document = evaluation.document
    last = len(document.thresholds[key].steps) - 1
    return {
        page.verdict: _list_verdicts(document, key),
        page.queue: _draw_queue(page, evaluation, key, ALL),
        page.flow: gr.update(value=figures.gold_flow(document, key), visible=True),
        page.histogram: gr.update(
            value=figures.thresholds(document, key, name_scores(document)[key]), visible=True
        ),
        page.cutoff: gr.update(maximum=last, value=0, visible=True),
        page.threshold: aside_html(figures.describe_cutoff(document, key, name_scores(document)[key], 0)),
    }


def _draw_queue(page: Page, evaluation: Evaluation | None, key: str, verdict: str) -> Any:
    if evaluation is None:
        return gr.skip()
    document = evaluation.document
    rows = sort_worst_first(document.per_query, key)
    links = document.corpus in page.corpora()
    return queue_html(document, key, "" if verdict == ALL else verdict, rows, links)


def _write_files(evaluation: Evaluation) -> Any:
    """Write the downloads into gradio's cache, which names files by content (a reload adds none) and deletes old ones."""
    try:
        Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="draft-", dir=get_upload_folder()) as folder:
            made = write_all(Path(folder), evaluation, report_html)
            return gr.update(
                value=[save_file_to_cache(path, get_upload_folder()) for path in made], visible=True
            )
    except (RagInspectError, OSError) as error:  # a full disk costs the files, not the results
        gr.Warning(escape(f"Could not write the download files: {error}"))
        return gr.update(value=None, visible=False)


def _read_aim(goal: object, margin: object, budget: object) -> Aim:
    """Read what the decision is made by. Raises InputError."""
    return Aim(
        goal=goal if goal is not None else GOAL,  # type: ignore[arg-type]
        margin=MARGIN if margin is None else margin,  # type: ignore[arg-type]
        budget_ms=budget or None,  # type: ignore[arg-type]
    )


def wire(page: Page, bench: Workbench) -> None:
    """Connect the aim, the verdict filter, the cutoff slider and the choice of system."""

    @show_errors
    def decide_again(evaluation: Evaluation | None, *values: Any) -> dict[Any, Any]:
        if evaluation is None or evaluation.outcome.aim == (aim := _read_aim(*values)):
            return {page.notes: gr.skip()}
        outcome = replace(evaluation.outcome, aim=aim)
        again = replace(evaluation, outcome=outcome, document=assess(outcome))
        return draw_results(page, again, form_values(bench, settings_of(again.document)))

    def move_cutoff(evaluation: Evaluation | None, key: str, at: int) -> dict[Any, Any]:
        if evaluation is None:
            return {page.threshold: gr.skip()}
        document = evaluation.document
        cutoff, called = document.thresholds[key].steps[int(at)].cutoff, name_scores(document)[key]
        return {
            page.histogram: figures.thresholds(document, key, called, cutoff),
            page.threshold: aside_html(figures.describe_cutoff(document, key, called, int(at))),
        }

    def change_system(evaluation: Evaluation | None, key: str) -> dict[Any, Any]:
        return _draw_system(page, evaluation, key) if evaluation else {page.queue: gr.skip()}

    decided: dict[str, Any] = {"inputs": [page.evaluation, *page.aim], "outputs": page.results, **QUIET}
    watch_choice(page.goal).change(decide_again, **decided)
    for number in (page.margin, page.budget):
        gr.on([number.submit, number.blur], decide_again, trigger_mode="always_last", **decided)
    page.verdict.input(
        partial(_draw_queue, page), [page.evaluation, page.system, page.verdict], page.queue, **QUIET
    )
    settings, lab = [page.evaluation, page.system, page.cutoff], [page.histogram, page.threshold]
    page.cutoff.change(move_cutoff, settings, lab, trigger_mode="always_last", **QUIET)
    page.system.input(change_system, [page.evaluation, page.system], page.results, **QUIET)

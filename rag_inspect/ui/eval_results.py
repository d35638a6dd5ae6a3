"""The Evaluate tab's results: one document, drawn; and what of it can be turned over without computing again."""

from __future__ import annotations

import tempfile
from collections import Counter
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from rag_inspect.errors import RagInspectError
from rag_inspect.evaluation import EvalProgress
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.document import EvaluationDocument, worst_first
from rag_inspect.evaluation.jobs import Job
from rag_inspect.exports import name_scores, write_all
from rag_inspect.ui.eval_page import ALL, QUIET, Page
from rag_inspect.views import eval_figures as figures
from rag_inspect.views.evaluation import (
    advice_html,
    ceiling_html,
    notes_html,
    queue_html,
    running_html,
    table_html,
)
from rag_inspect.views.report import report_html
from rag_inspect.views.sentences import aside_html


def drawn(page: Page, evaluation: Evaluation) -> dict[Any, Any]:
    """A finished evaluation, for `page.results`."""
    document = evaluation.document
    keys = [system.key for system in document.rerankers]
    return {
        page.advice: advice_html(document),
        page.ceiling: ceiling_html(document),
        page.table: table_html(document),
        page.frontier: gr.update(value=figures.frontier(document), visible=True),
        page.system: gr.update(choices=keys, value=keys[0], visible=len(keys) > 1),
        page.notes: notes_html(document),
        page.files: _files(evaluation),
        page.evaluation: evaluation,
    } | _of_system(page, evaluation, keys[0])


def cleared(page: Page) -> dict[Any, Any]:
    """Nothing, for `page.results`: what stands there is of another evaluation."""
    words = [page.advice, page.ceiling, page.table, page.queue, page.threshold, page.notes]
    rest = [part for part in page.results if part not in words and part is not page.evaluation]
    return (
        dict.fromkeys(words, "") | {part: gr.update(visible=False) for part in rest} | {page.evaluation: None}
    )


def so_far(job: Job, progress: EvalProgress) -> tuple[str, str]:
    """The table and the verdict queue of a job at work, from the queries that are done."""
    table = running_html(progress.means, progress.queries_done, progress.queries)
    rows = list(job.rows)
    if not rows:
        return table, ""
    key = next(iter(rows[0].ranks))
    return table, queue_html(job.settings, key, "", worst_first(rows, key))


def _verdict_choices(document: EvaluationDocument, key: str) -> Any:
    """The verdicts this reranker has, with their counts; all of them chosen."""
    counts = Counter(row.verdicts[key] for row in document.per_query)
    choices = [
        (f"{name.replace('_', ' ')} ({counts[name]})", name) for name in document.verdicts if counts[name]
    ]
    return gr.update(choices=[(f"{ALL} ({document.queries})", ALL), *choices], value=ALL, visible=True)


def _of_system(page: Page, evaluation: Evaluation, key: str) -> dict[Any, Any]:
    """What there is of one reranker: verdicts, queue, flow and the threshold lab."""
    document = evaluation.document
    last = len(document.thresholds[key].steps) - 1
    return {
        page.verdict: _verdict_choices(document, key),
        page.queue: _queue(page, evaluation, key, ALL),
        page.flow: gr.update(value=figures.gold_flow(document, key), visible=True),
        page.histogram: gr.update(
            value=figures.thresholds(document, key, name_scores(document)[key]), visible=True
        ),
        page.cutoff: gr.update(maximum=last, value=0, visible=True),
        page.threshold: aside_html(figures.threshold_words(document, key, name_scores(document)[key], 0)),
    }


def _queue(page: Page, evaluation: Evaluation | None, key: str, verdict: str) -> Any:
    if evaluation is None:
        return gr.skip()
    document = evaluation.document
    rows = worst_first(document.per_query, key)
    links = document.corpus in page.corpora()
    return queue_html(document, key, "" if verdict == ALL else verdict, rows, links)


def _files(evaluation: Evaluation) -> Any:
    """The downloads, in gradio's cache: there a file's content is its name, so a reload adds none, and old ones go."""
    try:
        with tempfile.TemporaryDirectory(prefix="rag-inspect-") as folder:
            made = write_all(Path(folder), evaluation, report_html)
            return gr.update(
                value=[save_file_to_cache(path, get_upload_folder()) for path in made], visible=True
            )
    except (RagInspectError, OSError) as error:  # a full disk costs the files, not the results
        gr.Warning(escape(f"There are no files to download: {error}"))
        return gr.update(value=None, visible=False)


def wire(page: Page) -> None:
    """The verdict filter, the cutoff slider and the choice of reranker."""

    def step(evaluation: Evaluation | None, key: str, at: int) -> dict[Any, Any]:
        if evaluation is None:
            return {}
        document = evaluation.document
        cutoff, called = document.thresholds[key].steps[int(at)].cutoff, name_scores(document)[key]
        return {
            page.histogram: figures.thresholds(document, key, called, cutoff),
            page.threshold: aside_html(figures.threshold_words(document, key, called, int(at))),
        }

    def other(evaluation: Evaluation | None, key: str) -> dict[Any, Any]:
        return _of_system(page, evaluation, key) if evaluation else {}

    page.verdict.input(
        partial(_queue, page), [page.evaluation, page.system, page.verdict], page.queue, **QUIET
    )
    settings, lab = [page.evaluation, page.system, page.cutoff], [page.histogram, page.threshold]
    page.cutoff.change(step, settings, lab, trigger_mode="always_last", **QUIET)
    page.system.input(other, [page.evaluation, page.system], page.results, **QUIET)

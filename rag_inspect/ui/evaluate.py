"""The Evaluate tab: is the reranker worth its cost on this eval set? The job survives a reload of the page."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import gradio as gr

from rag_inspect.errors import InputError, RagInspectError
from rag_inspect.evaluation import EvalProgress
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.jobs import Job
from rag_inspect.options import SPLIT
from rag_inspect.sessions import Visitor
from rag_inspect.ui import eval_opening, eval_results, past_runs
from rag_inspect.ui.askers import read_asker
from rag_inspect.ui.controls import corpora_update, update_rerankers
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.eval_page import QUIET, Page, lay_out
from rag_inspect.ui.eval_settings import (
    TELL_SETTINGS,
    form_values,
    read_settings,
    settings_of,
    split_update,
    stages_update,
    write_settings,
)
from rag_inspect.ui.newest import Newest
from rag_inspect.views.evaluation import progress_html
from rag_inspect.views.sentences import aside_html
from rag_inspect.workbench import Workbench

LABEL = "Evaluate"


def build(bench: Workbench, app: gr.Blocks, tab: gr.Tab) -> list[Any]:
    """Lay out the tab and connect its events; returns the components that must exist while another tab is open."""
    page = lay_out(bench)
    newest = Newest()
    _wire_job(page, bench, newest)
    _wire_form(page, bench, app, tab)
    eval_opening.wire(page, bench, tab, newest)
    eval_results.wire(page, bench)
    past_runs.wire(page, bench, app)
    return [page.job_id, page.visitor, page.timer]


def _wire_job(page: Page, bench: Workbench, newest: Newest) -> None:
    """Connect the events that start, poll and stop a job."""

    def start(request: gr.Request, job_id: str, name: object, *settings: Any) -> dict[Any, Any]:
        address = read_asker(request, on_space=bench.settings.on_space).address
        begun = _start(page, bench, job_id, name, address, *settings)
        newest.begin(request, begun[page.job_id])
        return begun

    def poll(
        request: gr.Request, job_id: str, rows_seen: int, visitor: object, shown_now: Any
    ) -> dict[Any, Any]:
        if newest.is_superseded(request, job_id):
            return page.unchanged
        outputs = _poll(page, bench, job_id, rows_seen, visitor, shown_now)
        return page.unchanged if newest.is_superseded(request, job_id) else outputs

    settings = [page.job_id, page.visitor, *page.settings]
    started = [page.job_id, page.rows_seen, page.timer, page.progress, *page.results]
    polled = [page.job_id, page.progress, page.timer, page.rows_seen, page.past, *page.results]
    begun = page.run.click(show_errors(start), settings, started, **QUIET)
    # The last word about the job before may have come just now, and have ended the polling.
    begun.success(lambda: gr.Timer(active=True), None, page.timer, **QUIET)
    page.timer.tick(
        show_errors(poll), [page.job_id, page.rows_seen, page.visitor, page.evaluation], polled, **QUIET
    )
    page.stop.click(partial(_stop, bench), [page.job_id, page.visitor], page.progress, **QUIET)


def _wire_form(page: Page, bench: Workbench, app: gr.Blocks, tab: gr.Tab) -> None:
    """Connect what fills the form."""
    told = {"fn": None, "inputs": page.settings, "js": TELL_SETTINGS, **QUIET}
    gr.on([part.change for part in page.settings], **told)
    tab.select(**told)
    returned = [page.job_id, page.progress, page.timer, *page.settings]
    app.load(show_errors(partial(_restore_job, page, bench)), [page.job_id, page.visitor], returned, **QUIET)
    app.load(partial(update_rerankers, bench), None, page.rerankers, **QUIET)


def _start(
    page: Page, bench: Workbench, job_id: str, name: object, address: str, *settings: Any
) -> dict[Any, Any]:
    """Start an evaluation. Raises InputError if this visitor's last one is still running or too many are waiting."""
    options, visitor = read_settings(*settings), Visitor.from_browser(name)
    before = bench.job(job_id or "", visitor)
    if before and not (
        before.over or before.stopping
    ):  # a new job would replace its id, and nobody could stop it
        raise InputError("your last evaluation is still running; wait for it or stop it")
    job = bench.start_evaluation(options, visitor, address)
    begun = {page.job_id: job.job_id, page.rows_seen: 0, page.timer: gr.Timer(active=True)}
    return begun | {page.progress: aside_html("starting …")} | eval_results.clear_results(page)


def _poll(
    page: Page, bench: Workbench, job_id: str, rows_seen: int, visitor: object, shown_now: Any
) -> dict[Any, Any]:
    """Show how far the job is, or its end."""
    job = bench.job(job_id or "", Visitor.from_browser(visitor))
    if job is None:
        return _forget_job(page, job_id)
    # If the user opened a past run meanwhile, it stays: the page neither mixes two evaluations nor turns under a reader.
    if not job.over:
        return _show_progress(page, job, rows_seen if shown_now is None else len(job.rows))
    words = _describe_end(job, bench.score_cache.trouble)
    ended = {page.progress: aside_html(words), page.timer: gr.Timer(active=False)}
    if job.result is None:
        return ended
    ended[page.past] = past_runs.update_choices(bench, visitor)
    if shown_now is not None and shown_now.run_id != job.result.run_id != "":
        return ended | {page.progress: aside_html(f"{words} Open it under Past runs.")}
    return ended | eval_results.draw_results(page, job.result, form_values(bench, job.settings))


def _show_progress(page: Page, job: Job, rows_seen: int) -> dict[Any, Any]:
    """Show the progress; if more queries are done than `rows_seen`, also the table and the queue so far."""
    moment = job.moment
    words = f"{job.what}: {'stopping; ' if job.stopping else ''}{moment}"
    if not isinstance(moment, EvalProgress):
        return {page.progress: progress_html(words)}
    now = {page.progress: progress_html(words, moment.pairs_done / max(1, moment.pairs))}
    if len(job.rows) == rows_seen:
        return now
    table, queue = eval_results.draw_progress(job, moment)
    return now | {page.rows_seen: len(job.rows), page.table: table, page.queue: queue}


def _describe_end(job: Job, trouble: str | None) -> str:
    """Describe how the job ended. `trouble` is the score cache's. An unexpected error goes to the log with its traceback."""
    kept = f"{trouble}." if trouble else "Scores so far are kept; press Evaluate to continue."
    kept = kept if isinstance(job.moment, EvalProgress) else ""
    if job.error is not None:
        if isinstance(job.error, RagInspectError):
            return f"{job.what} failed: {job.error}."  # its message says what is kept
        logging.getLogger(__name__).error("an evaluation of %s failed", job.what, exc_info=job.error)
        return f"{job.what} failed: {type(job.error).__name__}; see the server log for details. {kept}"
    if job.result is None:
        return f"{job.what}: stopped. {kept}"
    found = job.result.document
    if job.stopping:
        return f"{job.what}: stopped. Every score was in, so here is the result; the notes say what was not timed."
    missing = "".join(f" {key} was left out;" for key in job.settings.list_left_out(found))
    done = f"{job.what}: done, {found.scored_pairs:,} pairs scored, {found.cached_pairs:,} from the cache."
    return done + (f"{missing} the notes say why." if missing else "")


def _forget_job(page: Page, job_id: str) -> dict[Any, Any]:
    """Stop polling; if there was a job, say once that it is lost."""
    idle = {page.timer: gr.Timer(active=False)}
    if not job_id:
        return idle
    words = "Your last evaluation was lost when the app restarted. Its scores are kept; press Evaluate to continue."
    return idle | {page.job_id: "", page.progress: aside_html(words)}


def _restore_job(page: Page, bench: Workbench, job_id: str, visitor: object) -> dict[Any, Any]:
    """Fill the lists; if this browser's job is still known, restore its settings and poll it again.

    With `serve --replay` the form says what the replay says.
    """
    job = bench.job(job_id or "", Visitor.from_browser(visitor))
    corpus = job.what if job else bench.default_corpus
    lists = {
        page.corpus: corpora_update(bench, corpus),
        page.first_stages: stages_update(bench, corpus),
        page.split: split_update(bench, corpus, SPLIT),
    }
    if job is not None:
        filled = write_settings(page, bench, job.settings) | {page.corpus: lists[page.corpus]}
        return lists | filled | {page.timer: gr.Timer(active=True)}
    if bench.replay is not None:
        settings = settings_of(assess(bench.replay))
        if filled := write_settings(page, bench, settings):
            lists = lists | filled | {page.corpus: corpora_update(bench, settings.corpus)}
    return lists | _forget_job(page, job_id)


def _stop(bench: Workbench, job_id: str, visitor: object) -> str:
    job = bench.job(job_id or "", Visitor.from_browser(visitor))
    if job is None or job.over:
        return aside_html("Nothing is running.")
    job.stop()
    return aside_html("Stopping …")

"""The Evaluate tab: is the reranker worth its cost on this eval set? The job survives a reload of the page."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import gradio as gr

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import CorpusError, InputError, RagInspectError
from rag_inspect.evaluation import EvalProgress
from rag_inspect.evaluation.jobs import Job
from rag_inspect.options import SPLIT, EvalOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.sessions import Visitor
from rag_inspect.ui import eval_results, past_runs
from rag_inspect.ui.controls import corpora_update, update_model_labels, watch_choice
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.eval_page import QUIET, Page, lay_out
from rag_inspect.views.evaluation import progress_html
from rag_inspect.views.sentences import aside_html
from rag_inspect.workbench import Workbench

LABEL = "Evaluate"


def build(bench: Workbench, app: gr.Blocks) -> list[Any]:
    """Lay out the tab and connect its events; returns the components that must exist while another tab is open."""
    page = lay_out(bench)
    _wire_job(page, bench, app)
    eval_results.wire(page)
    past_runs.wire(page, bench, app)
    return [page.job_id, page.visitor, page.timer]


def _wire_job(page: Page, bench: Workbench, app: gr.Blocks) -> None:
    """Connect the events that start, poll and stop a job, and find it again after a reload."""

    def poll(job_id: str, rows_seen: int, visitor: object, shown_now: Any) -> dict[Any, Any]:
        job = bench.job(job_id or "", Visitor.from_browser(visitor))
        if job is None:
            return _forget_job(page, job_id)
        if not job.over:
            # If the user opened a past run meanwhile, leave it alone: the page must not mix two evaluations.
            return _show_progress(page, job, rows_seen if shown_now is None else len(job.rows))
        ended = {
            page.progress: aside_html(_describe_end(job, bench.score_cache.trouble)),
            page.timer: gr.Timer(active=False),
        }
        if job.result is None:
            return ended
        listed = {page.past: past_runs.update_choices(bench, visitor)}
        return ended | listed | eval_results.draw_results(page, job.result)

    settings = [page.job_id, page.visitor, *page.settings]
    started = [page.job_id, page.rows_seen, page.timer, page.progress, *page.results]
    polled = [page.job_id, page.progress, page.timer, page.rows_seen, page.past, *page.results]
    page.run.click(show_errors(partial(_start, page, bench)), settings, started, **QUIET)
    page.timer.tick(
        show_errors(poll), [page.job_id, page.rows_seen, page.visitor, page.evaluation], polled, **QUIET
    )
    page.stop.click(partial(_stop, bench), [page.job_id, page.visitor], page.progress, **QUIET)
    watch_choice(page.corpus).change(
        show_errors(partial(_list_splits, bench)), page.corpus, page.split, **QUIET
    )
    returned = [page.job_id, page.progress, page.timer, *page.settings]
    app.load(show_errors(partial(_restore_job, page, bench)), [page.job_id, page.visitor], returned, **QUIET)
    labels = partial(update_model_labels, bench, EMBEDDERS, RERANKERS)
    app.load(labels, None, [page.embedder, page.rerankers], **QUIET)


def _start(page: Page, bench: Workbench, job_id: str, name: object, *settings: Any) -> dict[Any, Any]:
    """Start an evaluation. Raises InputError if this visitor's last one is still running or too many are waiting."""
    options, visitor = _read_settings(*settings), Visitor.from_browser(name)
    before = bench.job(job_id or "", visitor)
    if before and not before.over:  # a new job would replace its id, and nobody could stop it
        raise InputError("your last evaluation is still running; wait for it or stop it")
    job = bench.start_evaluation(options, visitor)
    begun = {page.job_id: job.job_id, page.rows_seen: 0, page.timer: gr.Timer(active=True)}
    return begun | {page.progress: aside_html("starting …")} | eval_results.clear_results(page)


def _read_settings(
    corpus: str, embedder: str, keys: list[str], top_k: int, top_n: int, cutoffs: str, split: str
) -> EvalOptions:
    if not keys:
        raise InputError("no reranker is chosen; choose one or more to compare with the first stage")
    return EvalOptions(
        corpus=corpus,
        embedder=embedder,
        rerankers=keys,
        top_k=top_k,
        top_n=top_n,
        cutoffs=cutoffs,
        split=split,
    )


def _show_progress(page: Page, job: Job, rows_seen: int) -> dict[Any, Any]:
    """Show the progress; if more queries are done than `rows_seen`, also the table and the queue so far."""
    moment = job.moment
    words = f"{job.what}: {moment}"
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
    return (
        f"{job.what}: done, {found.scored_pairs:,} pairs scored, {found.cached_pairs:,} from the score cache."
    )


def _forget_job(page: Page, job_id: str) -> dict[Any, Any]:
    """Stop polling; if there was a job, say once that it is lost."""
    idle = {page.timer: gr.Timer(active=False)}
    if not job_id:
        return idle
    words = "Your last evaluation was lost when the app restarted. Its scores are kept; press Evaluate to continue."
    return idle | {page.job_id: "", page.progress: aside_html(words)}


def _restore_job(page: Page, bench: Workbench, job_id: str, visitor: object) -> dict[Any, Any]:
    """Fill the lists; if this browser's job is still known, restore its settings and poll it again."""
    job = bench.job(job_id or "", Visitor.from_browser(visitor))
    corpus = job.what if job else bench.default_corpus
    try:
        names = list(bench.corpus(corpus).splits)
    except CorpusError:  # Evaluate reports it; the lists are needed to choose another corpus
        names = []
    split = _update_splits(names, job.settings.split if job else SPLIT)
    lists = {page.corpus: corpora_update(bench, corpus), page.split: split}
    if job is None:
        return lists | _forget_job(page, job_id)
    chosen = {
        page.embedder: job.settings.embedder,
        page.rerankers: list(job.settings.rerankers),
        page.top_k: job.settings.top_k,
        page.top_n: job.settings.top_n,
        page.cutoffs: ",".join(map(str, job.settings.cutoffs)),
    }
    return lists | chosen | {page.timer: gr.Timer(active=True)}


def _stop(bench: Workbench, job_id: str, visitor: object) -> str:
    job = bench.job(job_id or "", Visitor.from_browser(visitor))
    if job is None or job.over:
        return aside_html("Nothing is running.")
    job.stop()
    return aside_html("Stopping …")


def _list_splits(bench: Workbench, name: str) -> Any:
    names = list(bench.corpus(name).splits)
    if not names:
        raise CorpusError(f"{name} has no qrels, so there is nothing to evaluate; add qrels/test.tsv")
    return _update_splits(names, SPLIT)


def _update_splits(names: list[str], split: str) -> Any:
    """Update the list of splits and show this one, or the first if there is none with that name."""
    return gr.update(choices=names or [split], value=split if split in names or not names else names[0])

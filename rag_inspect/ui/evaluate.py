"""The Evaluate tab: is the reranker worth it on this eval set? A job that survives a reload, and its numbers."""

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
from rag_inspect.ui.controls import chosen, corpora_update, relabelled
from rag_inspect.ui.errors import shown
from rag_inspect.ui.eval_page import QUIET, Page, lay_out
from rag_inspect.views.evaluation import progress_html
from rag_inspect.views.sentences import aside_html
from rag_inspect.workbench import Workbench

LABEL = "Evaluate"
MAX_WAITING = 8  # evaluations on this machine that are not over; each is a thread


def build(bench: Workbench, app: gr.Blocks) -> list[Any]:
    """Lay the tab out and wire it; returns what has to live while another tab is shown."""
    page = lay_out(bench)
    _wire_job(page, bench, app)
    eval_results.wire(page)
    past_runs.wire(page, bench, app)
    return [page.job_id, page.visitor, page.timer]


def _wire_job(page: Page, bench: Workbench, app: gr.Blocks) -> None:
    """A job is started, polled, stopped, and found again after a reload."""

    def poll(job_id: str, rows_seen: int, visitor: object, shown_now: Any) -> dict[Any, Any]:
        job = bench.job(job_id or "", Visitor.from_browser(visitor))
        if job is None:
            return _forgotten(page, job_id)
        if not job.over:
            # A past run opened meanwhile stays as it is: two evaluations in one page would be a third.
            return _going(page, job, rows_seen if shown_now is None else len(job.rows))
        ended = {
            page.progress: aside_html(_last_words(job, bench.score_cache.trouble)),
            page.timer: gr.Timer(active=False),
        }
        if job.result is None:
            return ended
        listed = {page.past: past_runs.choices(bench, visitor)}
        return ended | listed | eval_results.drawn(page, job.result)

    settings = [page.job_id, page.visitor, *page.settings]
    started = [page.job_id, page.rows_seen, page.timer, page.progress, *page.results]
    polled = [page.job_id, page.progress, page.timer, page.rows_seen, page.past, *page.results]
    page.run.click(shown(partial(_start, page, bench)), settings, started, **QUIET)
    page.timer.tick(
        shown(poll), [page.job_id, page.rows_seen, page.visitor, page.evaluation], polled, **QUIET
    )
    page.stop.click(partial(_stop, bench), [page.job_id, page.visitor], page.progress, **QUIET)
    chosen(page.corpus).change(shown(partial(_splits, bench)), page.corpus, page.split, **QUIET)
    returned = [page.job_id, page.progress, page.timer, *page.settings]
    app.load(shown(partial(_return, page, bench)), [page.job_id, page.visitor], returned, **QUIET)
    labels = partial(relabelled, bench, EMBEDDERS, RERANKERS)
    app.load(labels, None, [page.embedder, page.rerankers], **QUIET)


def _start(page: Page, bench: Workbench, job_id: str, name: object, *settings: Any) -> dict[Any, Any]:
    """Begin an evaluation, unless this visitor's last one still runs or too many wait."""
    options, visitor = _read_settings(*settings), Visitor.from_browser(name)
    before = bench.job(job_id or "", visitor)
    if before and not before.over:  # its id would be forgotten, and nobody could stop it
        raise InputError("your last evaluation has not ended yet; wait for it, or stop it first")
    if len(bench.jobs.running) >= MAX_WAITING:
        raise InputError(f"{MAX_WAITING} evaluations are waiting on this machine already; try again later")
    job = bench.start_evaluation(options, visitor)
    begun = {page.job_id: job.job_id, page.rows_seen: 0, page.timer: gr.Timer(active=True)}
    return begun | {page.progress: aside_html("starting …")} | eval_results.cleared(page)


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


def _going(page: Page, job: Job, rows_seen: int) -> dict[Any, Any]:
    """How far it is; and, where queries were finished since the last look, the table and the queue so far."""
    moment = job.moment
    words = f"{job.what}: {moment}"
    if not isinstance(moment, EvalProgress):
        return {page.progress: progress_html(words)}
    now = {page.progress: progress_html(words, moment.pairs_done / max(1, moment.pairs))}
    if len(job.rows) == rows_seen:
        return now
    table, queue = eval_results.so_far(job, moment)
    return now | {page.rows_seen: len(job.rows), page.table: table, page.queue: queue}


def _last_words(job: Job, trouble: str | None) -> str:
    """How it ended, `trouble` being the score cache's; an error that is not ours goes into the log whole."""
    kept = f"{trouble}." if trouble else "What had been scored is kept; Evaluate goes on from there."
    kept = kept if isinstance(job.moment, EvalProgress) else ""
    if job.error is not None:
        if isinstance(job.error, RagInspectError):
            return f"{job.what} failed: {job.error}."  # which says itself what is kept
        logging.getLogger(__name__).error("an evaluation of %s failed", job.what, exc_info=job.error)
        return f"{job.what} failed: {type(job.error).__name__}, which the server's log has in full. {kept}"
    if job.result is None:
        return f"{job.what}: stopped. {kept}"
    found = job.result.document
    return (
        f"{job.what}: done, {found.scored_pairs:,} pairs scored, {found.cached_pairs:,} from the score cache."
    )


def _forgotten(page: Page, job_id: str) -> dict[Any, Any]:
    """Nothing to poll; where there was a job, a word on it, once."""
    idle = {page.timer: gr.Timer(active=False)}
    if not job_id:
        return idle
    words = "Your last evaluation is not known here any more: the app was started anew. What had been scored is kept; Evaluate goes on from there."
    return idle | {page.job_id: "", page.progress: aside_html(words)}


def _return(page: Page, bench: Workbench, job_id: str, visitor: object) -> dict[Any, Any]:
    """The lists as they are now; after a reload, poll again where this browser's job still is, under its settings."""
    job = bench.job(job_id or "", Visitor.from_browser(visitor))
    corpus = job.what if job else bench.default_corpus
    try:
        names = list(bench.corpus(corpus).splits)
    except CorpusError:  # said when it is evaluated; the lists are needed to choose another
        names = []
    split = _split_update(names, job.settings.split if job else SPLIT)
    lists = {page.corpus: corpora_update(bench, corpus), page.split: split}
    if job is None:
        return lists | _forgotten(page, job_id)
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


def _splits(bench: Workbench, name: str) -> Any:
    names = list(bench.corpus(name).splits)
    if not names:
        raise CorpusError(f"{name} has no qrels, so there is nothing to evaluate; add qrels/test.tsv")
    return _split_update(names, SPLIT)


def _split_update(names: list[str], split: str) -> Any:
    """The list of splits, showing this one where there is one of that name."""
    return gr.update(choices=names or [split], value=split if split in names or not names else names[0])

"""The Evaluate tab: is the reranker worth it on this eval set? A job that survives a reload, and its numbers."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from rag_inspect.errors import CorpusError, InputError, RagInspectError
from rag_inspect.evaluation import EvalProgress, runs
from rag_inspect.evaluation.assessment import Evaluation, assess, worst_first
from rag_inspect.exports import read_replay, write_all
from rag_inspect.metrics import parse_cutoffs
from rag_inspect.rerankers import RERANKERS
from rag_inspect.ui.controls import model_choices, relabelled
from rag_inspect.ui.errors import shown
from rag_inspect.views import eval_figures as figures
from rag_inspect.views.evaluation import (
    advice_html,
    ceiling_html,
    comparison_html,
    notes_html,
    progress_html,
    queue_html,
    table_html,
)
from rag_inspect.views.report import report_html
from rag_inspect.views.sentences import aside_html
from rag_inspect.workbench import Workbench

LABEL = "Evaluate"
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_html = partial(gr.HTML, apply_default_css=False)
_ALL = "all verdicts"
MAX_WAITING = 8  # evaluations on this machine that are not over; each is a thread


@dataclass
class _Page:
    """The components of the tab, by what they are for."""

    corpus: gr.Dropdown
    rerankers: gr.Dropdown
    top_k: gr.Slider
    cutoffs: gr.Textbox
    split: gr.Dropdown
    run: gr.Button
    stop: gr.Button
    progress: gr.HTML
    advice: gr.HTML
    ceiling: gr.HTML
    table: gr.HTML
    frontier: gr.Plot
    verdict: gr.Dropdown
    system: gr.Dropdown
    queue: gr.HTML
    flow: gr.Plot
    histogram: gr.Plot
    cutoff: gr.Slider
    threshold: gr.HTML
    notes: gr.HTML
    files: gr.Files
    past: gr.Dropdown
    open_past: gr.Button
    compare: gr.Button
    comparison: gr.HTML
    replay: gr.File
    evaluation: gr.State
    job_id: gr.BrowserState
    timer: gr.Timer

    @property
    def results(self) -> list[Any]:
        return [
            self.advice, self.ceiling, self.table, self.frontier, self.verdict, self.system, self.queue, self.flow,
            self.histogram, self.cutoff, self.threshold, self.notes, self.files, self.past, self.evaluation,
        ]  # fmt: skip


def build(bench: Workbench, app: gr.Blocks) -> list[Any]:
    """Lay the tab out and wire it; returns what has to live while another tab is shown."""
    page = _laid_out(bench)
    _wire_job(page, bench, app)
    _wire_results(page)
    _wire_past(page, bench)
    return [page.job_id, page.timer]


def _laid_out(bench: Workbench) -> _Page:
    with gr.Row(elem_id="eval-settings"):
        corpus = gr.Dropdown(list(bench.corpora()), value=bench.default_corpus, label="Corpus", min_width=140)
        rerankers = gr.Dropdown(
            model_choices(RERANKERS.values(), {}),
            value=[bench.default_reranker],
            multiselect=True,
            label="Rerankers",
        )
        top_k = gr.Slider(5, 50, value=20, step=1, label="top_k candidates", min_width=150)
        cutoffs = gr.Textbox("1,5,10", label="Cutoffs", min_width=90)
        split = gr.Dropdown(["test"], value="test", label="Split", min_width=90)
    with gr.Row():
        run = gr.Button("Evaluate", variant="primary", size="sm", min_width=120, scale=0)
        stop = gr.Button("Stop", size="sm", min_width=70, scale=0)
    progress = _html(
        aside_html("Every judged query of the split, through both stages. Not run yet."),
        elem_id="eval-progress",
    )
    advice, ceiling = _html(elem_id="eval-advice"), _html(elem_id="eval-ceiling")
    table = _html(elem_id="eval-table")
    frontier = gr.Plot(
        label="Quality against latency, at every depth", visible=False, elem_id="eval-frontier"
    )
    with gr.Row():
        verdict = gr.Dropdown([_ALL], value=_ALL, label="Verdict", visible=False, elem_id="eval-verdict")
        system = gr.Dropdown([], label="Reranker shown below", visible=False)
    queue = _html(elem_id="eval-queue")
    with gr.Row():
        flow = gr.Plot(label="Where the gold went", visible=False, min_width=320)
        histogram = gr.Plot(label="Threshold lab: logits of gold and others", visible=False, min_width=320)
    cutoff = gr.Slider(
        0, 40, value=0, step=1, visible=False,
        label="Cutoff, in steps from the lowest logit to the highest (it holds for this model and this corpus only)",
    )  # fmt: skip
    threshold = _html(elem_id="eval-threshold")
    notes = _html(elem_id="eval-notes")
    files = gr.Files(
        label="Download: TREC runs and qrels, CSV, JSON, report and replay", visible=False, interactive=False
    )
    with gr.Accordion("Past runs, and replays", open=False):
        with gr.Row():
            past = gr.Dropdown(
                [],
                multiselect=True,
                max_choices=2,
                label="Open one, or compare two",
                scale=6,
            )
            open_past = gr.Button("Open", size="sm", scale=0, min_width=80)
            compare = gr.Button("Compare", size="sm", scale=0, min_width=100)
        comparison = _html(elem_id="eval-comparison")
        replay = gr.File(
            label="A replay.json: opens without any model", file_types=[".json"], type="filepath"
        )
    return _Page(
        corpus, rerankers, top_k, cutoffs, split, run, stop, progress, advice, ceiling, table, frontier, verdict, system,
        queue, flow, histogram, cutoff, threshold, notes, files, past, open_past, compare, comparison, replay,
        evaluation=gr.State(None), job_id=gr.BrowserState("", storage_key="rag-inspect-evaluation", render=False),
        timer=gr.Timer(0.7, active=False, render=False),
    )  # fmt: skip


# The job: started, polled, stopped, and found again after a reload


def _wire_job(page: _Page, bench: Workbench, app: gr.Blocks) -> None:
    poll = shown(partial(_poll, bench))
    polled = [page.progress, page.timer, *page.results]

    def start(job_id: str, corpus: str, keys: list[str], top_k: int, cutoffs: str, split: str) -> list[Any]:
        if not keys:
            raise InputError("no reranker is chosen; choose one or more to compare with the embedding order")
        before = bench.jobs.get(job_id or "")
        if before and not before.over:  # its id would be forgotten, and nobody could stop it
            raise InputError("your last evaluation has not ended yet; wait for it, or stop it first")
        if len(bench.jobs.running) >= MAX_WAITING:
            raise InputError(
                f"{MAX_WAITING} evaluations are waiting on this machine already; try again later"
            )
        job = bench.start_evaluation(
            corpus, keys, top_k=int(top_k), cutoffs=parse_cutoffs(cutoffs), split=split
        )
        return [job.job_id, gr.Timer(active=True), aside_html("starting …")]

    settings = [page.job_id, page.corpus, page.rerankers, page.top_k, page.cutoffs, page.split]
    page.run.click(shown(start), settings, [page.job_id, page.timer, page.progress], **_QUIET)
    page.timer.tick(poll, page.job_id, polled, **_QUIET)
    page.stop.click(partial(_stop, bench), page.job_id, page.progress, **_QUIET)
    page.corpus.input(shown(partial(_splits, bench)), page.corpus, page.split, **_QUIET)
    app.load(partial(_return, bench), page.job_id, page.timer, **_QUIET)
    app.load(lambda: gr.update(choices=_past_choices(bench)), None, page.past, **_QUIET)
    app.load(lambda: relabelled(bench, RERANKERS)[0], None, page.rerankers, **_QUIET)
    if bench.replay is not None:
        app.load(lambda: _results(bench, _evaluated(bench.replay)), None, page.results, **_QUIET)


def _return(bench: Workbench, job_id: str) -> gr.Timer:
    """After a reload: poll again where this browser's job still is."""
    return gr.Timer(active=bool(job_id) and bench.jobs.get(job_id) is not None)


def _poll(bench: Workbench, job_id: str) -> list[Any]:
    job = bench.jobs.get(job_id or "")
    keep = [gr.skip()] * 15
    if job is None:
        return [gr.skip(), gr.Timer(active=False), *keep]
    if not job.over:
        going = job.moment if isinstance(job.moment, EvalProgress) else None
        share = going.pairs_done / max(1, going.pairs) if going else None
        return [
            progress_html(job.moment, share, dict(job.verdicts), going.means if going else {}),
            gr.skip(),
            *keep,
        ]
    if job.error is not None:
        cause = str(job.error)
        if not isinstance(job.error, RagInspectError):
            logging.getLogger(__name__).error("an evaluation of %s failed", job.what, exc_info=job.error)
            cause = f"{type(job.error).__name__}, which the server's log has in full."
        words = f"Failed: {cause} What had been scored is kept; Evaluate goes on from there."
        return [aside_html(words), gr.Timer(active=False), *keep]
    if job.result is None:
        words = "Stopped. What had been scored is kept; Evaluate goes on from there."
        return [aside_html(words), gr.Timer(active=False), *keep]
    done: Evaluation = job.result
    words = f"Done: {done.document['scored_pairs']:,} pairs scored, {done.document['cached_pairs']:,} from the score cache."
    return [aside_html(words), gr.Timer(active=False), *_results(bench, done)]


def _stop(bench: Workbench, job_id: str) -> str:
    job = bench.jobs.get(job_id or "")
    if job is None or job.over:
        return aside_html("Nothing is running.")
    job.stop()
    return aside_html("Stopping …")


def _splits(bench: Workbench, name: str) -> Any:
    names = list(bench.corpus(name).splits)
    if not names:
        raise CorpusError(f"{name} has no qrels, so there is nothing to evaluate; add qrels/test.tsv")
    return gr.update(choices=names, value="test" if "test" in names else names[0])


# The results: one document, drawn


def _results(bench: Workbench, evaluation: Evaluation) -> list[Any]:
    document = evaluation.document
    keys = [system["key"] for system in document["systems"][1:]]
    return [
        advice_html(document),
        ceiling_html(document),
        table_html(document),
        gr.update(value=figures.frontier(document), visible=True),
        _verdict_choices(document, keys[0]),
        gr.update(choices=keys, value=keys[0], visible=len(keys) > 1),
        *_of_system(evaluation, keys[0]),
        notes_html(document),
        _files(evaluation),
        gr.update(choices=_past_choices(bench)),
        evaluation,
    ]


def _verdict_choices(document: dict[str, Any], key: str) -> Any:
    """The verdicts this reranker has, with their counts; all of them chosen."""
    counts = Counter(row["verdicts"][key] for row in document["per_query"])
    choices = [
        (f"{name.replace('_', ' ')} ({counts[name]})", name) for name in document["verdicts"] if counts[name]
    ]
    return gr.update(choices=[(f"{_ALL} ({document['queries']})", _ALL), *choices], value=_ALL, visible=True)


def _of_system(evaluation: Evaluation, key: str) -> list[Any]:
    """Queue, flow, histogram, slider and threshold words of one reranker."""
    document = evaluation.document
    last = len(document["thresholds"][key]["steps"]) - 1
    return [
        _queue(evaluation, key, _ALL),
        gr.update(value=figures.gold_flow(document, key), visible=True),
        gr.update(value=figures.thresholds(document, key), visible=True),
        gr.update(maximum=last, value=0, visible=True),
        aside_html(figures.threshold_words(document, key, 0)),
    ]


def _queue(evaluation: Evaluation | None, key: str, verdict: str) -> Any:
    if evaluation is None:
        return gr.skip()
    rows = worst_first(evaluation.document["per_query"], key)
    return queue_html(evaluation.document, key, "" if verdict == _ALL else verdict, rows)


def _files(evaluation: Evaluation) -> Any:
    """The downloads, in gradio's cache: there a file's content is its name, so a reload adds none, and old ones go."""
    try:
        with tempfile.TemporaryDirectory(prefix="rag-inspect-") as folder:
            made = write_all(Path(folder), evaluation.outcome, evaluation.to_json(), report_html)
            return gr.update(
                value=[save_file_to_cache(path, get_upload_folder()) for path in made], visible=True
            )
    except (RagInspectError, OSError) as error:  # a full disk costs the files, not the results
        gr.Warning(f"There are no files to download: {error}")
        return gr.update(value=None, visible=False)


def _wire_results(page: _Page) -> None:
    def step(evaluation: Evaluation | None, key: str, at: int) -> list[Any]:
        if evaluation is None:
            return [gr.skip(), gr.skip()]
        document = evaluation.document
        cutoff = document["thresholds"][key]["steps"][int(at)]["cutoff"]
        return [
            figures.thresholds(document, key, cutoff),
            aside_html(figures.threshold_words(document, key, int(at))),
        ]

    def other(evaluation: Evaluation | None, key: str) -> list[Any]:
        if evaluation is None:
            return [gr.skip()] * 6
        return [_verdict_choices(evaluation.document, key), *_of_system(evaluation, key)]

    page.verdict.input(_queue, [page.evaluation, page.system, page.verdict], page.queue, **_QUIET)
    page.cutoff.release(
        step, [page.evaluation, page.system, page.cutoff], [page.histogram, page.threshold], **_QUIET
    )
    shown_below = [page.verdict, page.queue, page.flow, page.histogram, page.cutoff, page.threshold]
    page.system.input(other, [page.evaluation, page.system], shown_below, **_QUIET)


# Past runs, and replays of one's own or of others


def _past_choices(bench: Workbench) -> list[tuple[str, str]]:
    found = []
    for run in runs.list_runs(bench.runs_folder)[:100]:
        keys = ", ".join(system["key"] for system in run["systems"][1:])
        when = str(run["created"])[:16].replace("T", " ")
        found.append(
            (
                f"{when} · {run['corpus']} · {keys} · k {run['top_k']} · {run['queries']} queries",
                run["run_id"],
            )
        )
    return found


def _evaluated(outcome: Any) -> Evaluation:
    return Evaluation(outcome, assess(outcome))


def _wire_past(page: _Page, bench: Workbench) -> None:
    def reopen(chosen: list[str] | None) -> list[Any]:
        if not chosen:
            raise InputError("no past run is chosen; choose one to open")
        outcome, document = runs.load_run(bench.runs_folder, chosen[0])
        return _results(bench, Evaluation(outcome, document, chosen[0]))

    def compare(chosen: list[str] | None) -> str:
        if not chosen or len(chosen) != 2:
            raise InputError("two past runs are needed; choose two to compare")
        before, after = (runs.load_run(bench.runs_folder, run_id)[1] for run_id in sorted(chosen))
        return comparison_html(runs.compare_runs(before, after))

    def replay(path: str | None) -> list[Any]:
        return _results(bench, _evaluated(read_replay(Path(path)))) if path else [gr.skip()] * 15

    page.open_past.click(shown(reopen), page.past, page.results, **_QUIET)
    page.compare.click(shown(compare), page.past, page.comparison, **_QUIET)
    page.replay.upload(shown(replay), page.replay, page.results, **_QUIET)

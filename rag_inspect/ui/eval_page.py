"""The components of the Evaluate tab and their layout."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from rag_inspect.options import (
    CUTOFFS,
    FIRST_STAGE,
    GOAL,
    GOLD_GRADE,
    MARGIN,
    MAX_BUDGET_MS,
    MAX_GRADE,
    SPLIT,
)
from rag_inspect.rerankers import RERANKERS
from rag_inspect.ui.controls import depth_sliders, fold_html, model_choices, stage_choices
from rag_inspect.views.sentences import aside_html
from rag_inspect.workbench import Workbench

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ALL = "all verdicts"
CHOSEN = ""  # in `followed`: what is shown was chosen on this tab, or run there
# Gradio encrypts what it stores in the browser, with a key that every page gets: it keeps nothing from anybody. It
# must only be the same after a restart, or browsers lose their ids.
STORAGE_KEY = "rag-inspect"
_html = partial(gr.HTML, apply_default_css=False)


@dataclass(kw_only=True)
class Page:
    """The components of the tab. `corpora` lists the corpora whose queries Explore can open, as of the call."""

    corpora: Callable[[], Collection[str]]
    corpus: gr.Dropdown
    first_stages: gr.Dropdown
    rerankers: gr.Dropdown
    top_k: gr.Slider
    top_n: gr.Slider
    cutoffs: gr.Textbox
    split: gr.Dropdown
    gold_grade: gr.Number
    run: gr.Button
    stop: gr.Button
    progress: gr.HTML
    advice: gr.HTML
    goal: gr.Dropdown
    margin: gr.Number
    budget: gr.Number
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
    followed: gr.State  # the corpus that is shown because Explore shows it; None before the first, or CHOSEN
    rows_seen: gr.State
    job_id: gr.BrowserState
    visitor: gr.BrowserState
    timer: gr.Timer

    @property
    def settings(self) -> list[Any]:
        """The inputs of an evaluation, in the order `evaluate._read_settings` takes them."""
        return [
            self.corpus, self.first_stages, self.rerankers, self.top_k, self.top_n, self.cutoffs, self.split,
            self.gold_grade,
        ]  # fmt: skip

    @property
    def unchanged(self) -> dict[Any, Any]:
        """What a function with `progress` among its outputs returns if it has none: gradio takes no empty dict."""
        return {self.progress: gr.skip()}

    @property
    def aim(self) -> list[Any]:
        """What the decision is made by; a change decides again, and runs nothing."""
        return [self.goal, self.margin, self.budget]

    @property
    def results(self) -> list[Any]:
        """The outputs that `eval_results.draw_results` fills."""
        return [
            self.advice, *self.aim, self.ceiling, self.table, self.frontier, self.verdict, self.system, self.queue, self.flow,
            self.histogram, self.cutoff, self.threshold, self.notes, self.files, self.evaluation,
            self.followed,
        ]  # fmt: skip


def _lay_out_settings(bench: Workbench) -> dict[str, Any]:
    """Lay out the inputs of an evaluation; returns them by their names in `Page`."""
    _html(fold_html("evaluate"))
    with gr.Row(elem_id="eval-settings"):
        corpus = gr.Dropdown([], label="Corpus", min_width=140)  # filled at load
        first_stages = gr.Dropdown(
            stage_choices({}),
            value=[FIRST_STAGE],
            multiselect=True,
            label="First stages",
            scale=2,
        )
        rerankers = gr.Dropdown(
            model_choices(RERANKERS.values(), {}),
            value=[bench.default_reranker],
            multiselect=True,
            label="Rerankers",
            scale=2,
        )
    with gr.Row(elem_id="eval-depths"):
        top_k, top_n = depth_sliders()
        cutoffs = gr.Textbox(",".join(map(str, CUTOFFS)), label="Cutoffs", min_width=90)
        split = gr.Dropdown([SPLIT], value=SPLIT, label="Split", min_width=90)
        gold_grade = gr.Number(
            GOLD_GRADE, label="Gold from grade", precision=0, minimum=1, maximum=MAX_GRADE, min_width=90
        )
    return {
        "corpus": corpus, "first_stages": first_stages, "rerankers": rerankers, "top_k": top_k, "top_n": top_n,
        "cutoffs": cutoffs, "split": split, "gold_grade": gold_grade,
    }  # fmt: skip


def _lay_out_aim() -> dict[str, Any]:
    """Lay out what the decision is made by; returns the inputs by their names in `Page`."""
    with gr.Row(elem_id="eval-aim"):
        goal = gr.Dropdown(
            [("Somebody reads the first answer (MRR)", "first_answer"), ("The top n go to a model (recall)", "top_n")],
            value=GOAL, label="What counts", visible=False, min_width=220,
        )  # fmt: skip
        margin = gr.Number(
            MARGIN, minimum=0, maximum=0.5, step=0.01, label="A smaller difference does not matter", visible=False,
            min_width=160,
        )  # fmt: skip
        budget = gr.Number(
            None,
            minimum=1,
            maximum=MAX_BUDGET_MS,
            label="Latency budget, ms a query",
            visible=False,
            min_width=160,
        )
    return {"goal": goal, "margin": margin, "budget": budget}


def _lay_out_results() -> dict[str, Any]:
    """Lay out the results of an evaluation, the decision first."""
    advice = _html(elem_id="eval-advice")
    aim = _lay_out_aim()
    ceiling = _html(elem_id="eval-ceiling")
    table = _html(elem_id="eval-table")
    frontier = gr.Plot(label="Quality at every depth", visible=False, elem_id="eval-frontier")
    with gr.Row():
        verdict = gr.Dropdown([ALL], value=ALL, label="Verdict", visible=False, elem_id="eval-verdict")
        system = gr.Dropdown([], label="Show results of", visible=False)
    queue = _html(elem_id="eval-queue")
    with gr.Row():
        flow = gr.Plot(label="Where the gold went", visible=False, min_width=320, elem_id="eval-flow")
        histogram = gr.Plot(
            label="Threshold lab: scores of gold and other candidates",
            visible=False,
            min_width=320,
            elem_id="eval-histogram",
        )
    cutoff = gr.Slider(
        0, 40, value=0, step=1, visible=False, elem_id="eval-cutoff",
        label="Score cutoff, lowest to highest (valid for this model and corpus only)",
    )  # fmt: skip
    return {
        "advice": advice, **aim, "ceiling": ceiling, "table": table, "frontier": frontier, "verdict": verdict,
        "system": system, "queue": queue, "flow": flow, "histogram": histogram, "cutoff": cutoff,
        "threshold": _html(elem_id="eval-threshold"), "notes": _html(elem_id="eval-notes"),
    }  # fmt: skip


def _lay_out_past() -> dict[str, Any]:
    """Lay out past runs and replays."""
    with gr.Accordion("Past runs and replays", open=False):
        with gr.Row():
            past = gr.Dropdown([], multiselect=True, max_choices=2, label="Open one, or compare two", scale=6)
            open_past = gr.Button("Open", size="sm", scale=0, min_width=80)
            compare = gr.Button("Compare", size="sm", scale=0, min_width=100)
        comparison = _html(elem_id="eval-comparison")
        replay = gr.File(label="Open a replay.json (needs no model)", file_types=[".json"], type="filepath")
    return {
        "past": past, "open_past": open_past, "compare": compare, "comparison": comparison, "replay": replay,
    }  # fmt: skip


def lay_out(bench: Workbench) -> Page:
    """Lay out the whole tab, in reading order."""
    settings = _lay_out_settings(bench)
    with gr.Row():
        run = gr.Button("Evaluate", variant="primary", size="sm", min_width=120, scale=0)
        stop = gr.Button("Stop", size="sm", min_width=70, scale=0)
    progress = _html(
        aside_html("Not run yet. Evaluate runs every judged query of the split through both stages."),
        elem_id="eval-progress",
    )
    results = _lay_out_results()
    files = gr.Files(
        label="Download: TREC runs and qrels, CSV, JSON, report and replay",
        visible=False,
        interactive=False,
        elem_id="eval-files",
    )
    return Page(
        corpora=bench.corpora,
        **settings, run=run, stop=stop, progress=progress,
        **results, files=files,
        **_lay_out_past(),
        evaluation=gr.State(None), followed=gr.State(None), rows_seen=gr.State(0),
        visitor=gr.BrowserState("", storage_key="rag-inspect-visitor", secret=STORAGE_KEY, render=False),
        job_id=gr.BrowserState("", storage_key="rag-inspect-evaluation", secret=STORAGE_KEY, render=False),
        timer=gr.Timer(0.7, active=False, render=False),
    )  # fmt: skip

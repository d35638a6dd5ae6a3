"""Evaluate's settings: read from the form, put back into it, and what the form says for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from rag_inspect.errors import CorpusError, InputError, ModelError
from rag_inspect.evaluation.document import EvaluationDocument
from rag_inspect.evaluation.jobs import JobSettings
from rag_inspect.options import FIRST_STAGE, GOLD_GRADE, EvalOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import find_first_stage
from rag_inspect.ui.controls import PAGE_TOP_K, PAGE_TOP_N, list_recorded_stages, stage_choices
from rag_inspect.ui.eval_page import Page
from rag_inspect.workbench import Workbench

TELL_SETTINGS = """(corpus, stages, rerankers, k, n, cutoffs, split, grade) =>
  window.riControls('evaluate', corpus, stages, rerankers, k, n, cutoffs.replace(/\\s/g, ''), split, grade)"""
"""As TELL_CONTROLS of Explore."""


def read_settings(
    corpus: str,
    first_stages: list[str],
    keys: list[str],
    top_k: int,
    top_n: int,
    cutoffs: str,
    split: str,
    gold_grade: float | None,
) -> EvalOptions:
    """Read the form. Raises InputError or ModelError."""
    if not first_stages:
        raise InputError("no first stage is chosen; choose one or more")
    if not keys:
        raise InputError("no reranker is chosen; choose one or more to compare with the first stage")
    return EvalOptions(
        corpus=corpus,
        first_stages=first_stages,
        rerankers=keys,
        top_k=top_k,
        top_n=top_n,
        cutoffs=cutoffs,
        split=split,
        gold_grade=GOLD_GRADE if gold_grade is None else gold_grade,  # type: ignore[arg-type]  # checked there
    )


def settings_of(document: EvaluationDocument) -> JobSettings:
    """Return the settings with which this evaluation was made."""
    return JobSettings(
        corpus=document.corpus,
        split=document.split,
        gold_grade=document.gold_grade,
        first_stages=document.first_stages,
        top_k=document.top_k,
        top_n=document.top_n,
        rerankers=document.rerankers,
        cutoffs=tuple(document.cutoffs),
    )


def describe_misfit(bench: Workbench, settings: JobSettings) -> str:
    """Say what the form cannot say, and so what it does not mean; "" if it can say all of it."""
    missing = ", ".join(each[:80] for each in _list_misfits(bench, settings))
    return f" The form above cannot say {missing}: its settings are not this evaluation's." if missing else ""


def _list_misfits(bench: Workbench, settings: JobSettings) -> list[str]:
    """List what the form cannot say: a replay may come from an app with other corpora and models."""
    here = settings.corpus in bench.corpora()
    missing = [] if here else [f"{settings.corpus} (no such corpus here)"]
    missing += [key for key in settings.first_stages if here and not _has_stage(bench, settings.corpus, key)]
    missing += [key for key in settings.rerankers if key not in RERANKERS]
    depths = ("top_k", settings.top_k, *PAGE_TOP_K), ("top_n", settings.top_n, *PAGE_TOP_N)
    return missing + [f"{name} {depth}" for name, depth, low, high in depths if not low <= depth <= high]


def write_settings(page: Page, bench: Workbench, settings: JobSettings) -> dict[Any, Any]:
    """Fill the form; a form that cannot say this stays as it is."""
    if _list_misfits(bench, settings):
        return {}
    return {
        page.corpus: settings.corpus,
        page.first_stages: stages_update(bench, settings.corpus, settings.first_stages),
        page.rerankers: list(settings.rerankers),
        page.top_k: settings.top_k,
        page.top_n: settings.top_n,
        page.cutoffs: ",".join(map(str, settings.cutoffs)),
        page.split: split_update(bench, settings.corpus, settings.split),
        page.gold_grade: settings.gold_grade,
    }


def form_values(bench: Workbench, settings: JobSettings) -> list[Any] | None:
    """Return what the form says for these settings, in its order; None if it cannot say them."""
    if _list_misfits(bench, settings):
        return None
    cutoffs = ",".join(map(str, settings.cutoffs))
    models = list(settings.first_stages), list(settings.rerankers)
    depths = settings.top_k, settings.top_n
    return [settings.corpus, *models, *depths, cutoffs, settings.split, settings.gold_grade]


def stages_update(bench: Workbench, corpus: str, chosen: Sequence[str] = (FIRST_STAGE,)) -> Any:
    """List the corpus's first stages and choose those of `chosen` that it has; the default if it has none of them."""
    here = {spec.key: availability for spec, availability in bench.models()}
    known = [key for key in chosen if _has_stage(bench, corpus, key)]
    choices = stage_choices(here, [*list_recorded_stages(bench, corpus), *known])
    return gr.update(choices=choices, value=known or [FIRST_STAGE])


def _has_stage(bench: Workbench, corpus: str, key: str) -> bool:
    try:
        recorded = find_first_stage(key).kind == "recorded"
    except ModelError:
        return False
    return not recorded or key in list_recorded_stages(bench, corpus)


def split_update(bench: Workbench, corpus: str, split: str) -> Any:
    """List the corpus's splits and choose this one, or the first if there is none with that name."""
    try:
        names = list(bench.corpus(corpus).splits)
    except CorpusError:  # Evaluate reports it; the lists are needed to choose another corpus
        names = []
    return gr.update(choices=names or [split], value=split if split in names or not names else names[0])

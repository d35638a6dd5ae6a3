"""Evaluate's settings: read from the form, put back into it, and what the form says for them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import CorpusError, InputError
from rag_inspect.evaluation.document import EvaluationDocument
from rag_inspect.evaluation.jobs import JobSettings
from rag_inspect.options import EvalOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.ui.controls import PAGE_TOP_K, PAGE_TOP_N
from rag_inspect.ui.eval_page import Page
from rag_inspect.workbench import Workbench

TELL_SETTINGS = """(corpus, embedder, rerankers, k, n, cutoffs, split) =>
  window.riControls('evaluate', corpus, embedder, rerankers, k, n, cutoffs.replace(/\\s/g, ''), split)"""
"""As TELL_CONTROLS of Explore."""


def read_settings(
    corpus: str, embedder: str, keys: list[str], top_k: int, top_n: int, cutoffs: str, split: str
) -> EvalOptions:
    """Read the form. Raises InputError or ModelError."""
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


def settings_of(document: EvaluationDocument) -> JobSettings:
    """Return the settings with which this evaluation was made."""
    return JobSettings(
        corpus=document.corpus,
        split=document.split,
        embedder=document.embedder,
        top_k=document.top_k,
        top_n=document.top_n,
        rerankers=tuple(system.key for system in document.rerankers),
        cutoffs=tuple(document.cutoffs),
    )


def fits_form(bench: Workbench, settings: JobSettings) -> bool:
    """Return True if the form can say this: a replay may come from an app with other corpora and models."""
    depths = (settings.top_k, *PAGE_TOP_K), (settings.top_n, *PAGE_TOP_N)
    return (
        settings.corpus in bench.corpora()
        and settings.embedder in EMBEDDERS
        and all(key in RERANKERS for key in settings.rerankers)
        and all(low <= depth <= high for depth, low, high in depths)
    )


def write_settings(page: Page, bench: Workbench, settings: JobSettings) -> dict[Any, Any]:
    """Fill the form; a form that cannot say this stays as it is."""
    if not fits_form(bench, settings):
        return {}
    return {
        page.corpus: settings.corpus,
        page.embedder: settings.embedder,
        page.rerankers: list(settings.rerankers),
        page.top_k: settings.top_k,
        page.top_n: settings.top_n,
        page.cutoffs: ",".join(map(str, settings.cutoffs)),
        page.split: split_update(bench, settings.corpus, settings.split),
    }


def form_values(bench: Workbench, settings: JobSettings) -> list[Any] | None:
    """Return what the form says for these settings, in its order; None if it cannot say them."""
    if not fits_form(bench, settings):
        return None
    cutoffs, rerankers = ",".join(map(str, settings.cutoffs)), list(settings.rerankers)
    models = settings.embedder, rerankers
    return [settings.corpus, *models, settings.top_k, settings.top_n, cutoffs, settings.split]


def split_update(bench: Workbench, corpus: str, split: str) -> Any:
    """List the corpus's splits and choose this one, or the first if there is none with that name."""
    try:
        names = list(bench.corpus(corpus).splits)
    except CorpusError:  # Evaluate reports it; the lists are needed to choose another corpus
        names = []
    return gr.update(choices=names or [split], value=split if split in names or not names else names[0])

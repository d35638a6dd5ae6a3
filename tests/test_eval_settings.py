"""Evaluate's form and an evaluation from elsewhere: what the form cannot say is said beside the results."""

from dataclasses import replace

import pytest

from rag_inspect.evaluation.jobs import JobSettings
from rag_inspect.options import EvalOptions
from rag_inspect.ui.eval_settings import describe_misfit, form_values
from rag_inspect.workbench import Workbench

OURS = JobSettings.of(EvalOptions(corpus="tiny", rerankers=["mini"], first_stages=["minilm"]))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"corpus": "garden"},
            "cannot say garden (no such corpus here): its settings are not this evaluation's.",
        ),
        ({"rerankers": ("mini", "theirs")}, "cannot say theirs:"),
        ({"first_stages": ("recorded:mine", "minilm"), "top_k": 200}, "cannot say recorded:mine, top_k 200:"),
        ({"top_k": 3, "top_n": 3}, "cannot say top_k 3:"),
    ],
)
def test_what_the_form_cannot_say_is_said(settings, corpus_folder, other, words):
    corpus_folder("tiny", {"p": "text"})
    bench = Workbench(settings)
    assert describe_misfit(bench, OURS) == "" and form_values(bench, OURS) is not None
    theirs = replace(OURS, **other)
    assert words in describe_misfit(bench, theirs) and form_values(bench, theirs) is None

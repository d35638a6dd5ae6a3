"""Values that a page never sends and a program may: refused in one line before any function of the page gets them."""

import gradio as gr
import pytest

from rag_inspect.ui import build_app
from rag_inspect.workbench import Workbench

ODD: tuple[object, ...] = (["x"], [], {"a": 1}, 5, True)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    from rag_inspect.settings import Settings

    return build_app(Workbench(Settings(tmp_path_factory.mktemp("posted"), hub_offline=True)))


def list_odd(control) -> tuple[object, ...]:
    """Values of a kind that this control cannot have."""
    if isinstance(control, gr.Slider):
        return (["x"], [], {"a": 1}, "5", True, None)
    if isinstance(control, gr.Dropdown) and control.multiselect:
        return ("x", [["x"]], [5], [None], {"a": 1}, 5)
    return ODD if isinstance(control, gr.Dropdown | gr.Radio | gr.Textbox) else ()


def test_a_value_of_another_kind_is_refused_for_every_control_of_every_function(app):
    refused = 0
    for function in app.fns.values():
        usual = [getattr(control, "value", None) for control in function.inputs]
        for at, control in enumerate(function.inputs):
            for value in list_odd(control):
                with pytest.raises(gr.Error, match=r"expected a (number|list of texts|text)"):
                    app.validate_inputs(function, [*usual[:at], value, *usual[at + 1 :]])
                refused += 1
    assert refused > 100


def test_what_the_page_sends_is_taken(app):
    for function in app.fns.values():
        app.validate_inputs(function, [getattr(control, "value", None) for control in function.inputs])

"""Turn a RagInspectError into gradio's own error; any other error reaches the user without its message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from rag_inspect.errors import RagInspectError
from rag_inspect.words import describe_value


def show_errors(handler: Callable[..., Any], encode: Callable[[str], str] = escape) -> Callable[..., Any]:
    """Wrap a function or generator so that its RagInspectError becomes a gr.Error with the same message.

    The page renders messages as HTML, so they are escaped; an API client gets them unchanged (`encode=str`).
    """
    if inspect.isgeneratorfunction(handler):

        @wraps(handler)
        def generator(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except RagInspectError as error:
                raise gr.Error(encode(str(error)), print_exception=False) from error

        return generator

    @wraps(handler)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except RagInspectError as error:
            raise gr.Error(encode(str(error)), print_exception=False) from error

    return function


def check_values(app: gr.Blocks) -> None:
    """Let a direct call with too few values, or with values no control can have, end in one line for the caller.

    Gradio logs a traceback and says nothing; a list passes its check of a single choice if its parts are choices.
    """
    validate = app.validate_inputs

    def validate_in_words(block_fn: Any, values: list[Any]) -> None:
        wanted = len(block_fn.inputs)
        if len(values) < wanted:
            names = list(inspect.signature(block_fn.fn).parameters) if block_fn.fn else []
            words = (
                f"{wanted} values: {', '.join(names[:wanted])}"
                if len(names) >= wanted
                else f"{wanted} values"
            )
            raise gr.Error(f"/{block_fn.api_name} takes {words}; got {len(values)}", print_exception=False)
        for control, value in zip(block_fn.inputs, values, strict=False):
            if expected := _name_expected(control, value):
                name = f'"{control.label}" is {describe_value(value)}'
                raise gr.Error(escape(f"{name}; expected {expected}"), print_exception=False)
        validate(block_fn, values)

    app.validate_inputs = validate_in_words  # type: ignore[method-assign, assignment]


def _name_expected(control: object, value: object) -> str:
    """Say what this control holds; "" if the value is of that kind. None stands for nothing chosen, not for a number."""
    if isinstance(control, gr.Slider):
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    if value is None:
        return ""
    if isinstance(control, gr.Dropdown) and control.multiselect:
        texts = isinstance(value, list) and all(isinstance(part, str) for part in value)
        return "" if texts else "a list of texts"
    is_text = isinstance(value, str) or not isinstance(control, gr.Dropdown | gr.Radio | gr.Textbox)
    return "" if is_text else "a text"

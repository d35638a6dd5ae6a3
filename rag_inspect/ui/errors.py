"""Turn a RagInspectError into gradio's own error; any other error reaches the user without its message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from rag_inspect.errors import RagInspectError


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


def explain_missing_values(app: gr.Blocks) -> None:
    """Let a direct call with too few values end in one line for the caller; gradio logs a traceback and says nothing."""
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
        validate(block_fn, values)

    app.validate_inputs = validate_in_words  # type: ignore[method-assign, assignment]

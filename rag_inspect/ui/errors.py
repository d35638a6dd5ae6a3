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

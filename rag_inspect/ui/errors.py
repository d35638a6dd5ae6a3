"""One place where our errors become gradio's, which would otherwise reach the user without their message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from rag_inspect.errors import RagInspectError


def shown(handler: Callable[..., Any], words: Callable[[str], str] = escape) -> Callable[..., Any]:
    """The handler (a function or a generator), with a RagInspectError raised as gr.Error in its own words.

    The page takes them for HTML, so they are escaped; a client of the API gets them as they are (`words=str`).
    """
    if inspect.isgeneratorfunction(handler):

        @wraps(handler)
        def generator(*args: Any, **kwargs: Any) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except RagInspectError as error:
                raise gr.Error(words(str(error)), print_exception=False) from error

        return generator

    @wraps(handler)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except RagInspectError as error:
            raise gr.Error(words(str(error)), print_exception=False) from error

    return function

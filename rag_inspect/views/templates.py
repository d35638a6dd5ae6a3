"""The HTML templates, in the folder `templates`: whatever they are given comes out as text."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(name: str, **values: object) -> str:
    """The template of this name with these values, escaped; a value it does not get is an error."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    """Made at the first use, as each template is read at its first: an import reads nothing."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )

"""Render the HTML templates in the folder `templates`; every value is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rag_inspect.views import formats
from rag_inspect.words import format_p


def render(name: str, **values: object) -> str:
    """Render the template of this name. Raises jinja2.UndefinedError if a value is missing."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    """Make the environment on first use, so that an import reads no file."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "as_metric": formats.format_metric,
        "as_mean": formats.format_mean,
        "as_mean_range": formats.format_mean_range,
        "as_change": formats.format_change,
        "as_change_range": formats.format_change_range,
        "as_p": format_p,
        "as_number": formats.format_number,
        "as_latency": formats.format_latency,
        "as_date": formats.format_date,
    }
    return environment

"""Phrases that several parts of the program write in the same way."""

from __future__ import annotations

LEAST_P = 0.001  # a smaller p is written "< 0.001"


def format_count(count: int, one: str = "query", many: str = "queries") -> str:
    """`1 query`, `2,000 queries`."""
    return f"{count:,} {one if count == 1 else many}"


def format_p(value: float, equals: str = "") -> str:
    """`0.031` or `< 0.001`; `equals` precedes an exact value: `= 0.031`."""
    return f"{equals}{value:.3f}" if value >= LEAST_P else f"< {LEAST_P}"


def describe_value(value: object, most: int = 60) -> str:
    """Return a short form of any value for a message; if it cannot be printed (nested too deep, huge), only its type.

    What is cut ends in "…", a text inside its quotes.
    """
    try:
        if isinstance(value, str):
            return repr(value if len(value) <= most else f"{value[: most - 1]}…")
        text = repr(value)
        return text if len(text) <= most else f"{text[: most - 1]}…"
    except (RecursionError, ValueError):
        return f"something too large to show ({type(value).__name__})"


def format_duration(seconds: float) -> str:
    """`45 s`, `12 min`, `1.7 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""Words that more than one part of the program puts into its sentences."""

from __future__ import annotations


def format_count(count: int, one: str = "query", many: str = "queries") -> str:
    """`1 query`, `2,000 queries`."""
    return f"{count:,} {one if count == 1 else many}"

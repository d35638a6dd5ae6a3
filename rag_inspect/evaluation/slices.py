"""The change by kind of query: by the tags that a corpus gives its queries, else by what their texts show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rag_inspect.evaluation.document import Slice
from rag_inspect.significance import benjamini_hochberg, differences
from rag_inspect.types import Query

LEAST_QUERIES = 5  # distinct ones in a slice; fewer say nothing
MOST_TAGS = 50  # of one query
MOST_VALUES = 20  # of one metadata field; more are no tags
MOST_TAGS = 40
_LONGEST = 40  # characters of a tag's value
_QUESTION = re.compile(r"[?？]|^\s*(who|what|when|where|why|which|how|is|are|can|do|does|did|should|will|wer|was|wann|wo|warum|wie|qui|quoi|quand|où|pourquoi|comment|quién|qué|cuándo|dónde|cómo)\b", re.I)  # fmt: skip
_NEGATION = re.compile(
    r"\b(not?|never|none|without|cannot|\w+n['’]t|nicht|kein\w*|ohne|pas|sans|sin)\b", re.I
)
_CODE = re.compile(r"[a-z0-9]_[a-z0-9]|[a-z][A-Z]|--\w|\w\(\)|[{}<>=]|\w\.\w+\(")
TRAITS: Mapping[str, Callable[[str], bool]] = {
    "up to 4 words": lambda text: len(text.split()) <= 4,
    "15 words or more": lambda text: len(text.split()) >= 15,
    "a question": lambda text: bool(_QUESTION.search(text)),
    "keywords": lambda text: not _QUESTION.search(text),
    "with a number": lambda text: any(character.isdecimal() for character in text),
    "with a negation": lambda text: bool(_NEGATION.search(text)),
    "with code": lambda text: bool(_CODE.search(text)),
}
"""What the text of a query shows, by name."""


def tag_queries(queries: Sequence[Query]) -> dict[str, tuple[str, ...]]:
    """Return the tags of each query, by id: `field: value` of its metadata; without any such field, its TRAITS."""
    found = {query.query_id: list(_read_tags(query.metadata)) for query in queries}
    values = Counter(field for field, _ in {tag for tags in found.values() for tag in tags})
    fields = {field for field, count in values.items() if 1 < count <= MOST_VALUES}
    if fields:
        return {
            query_id: tuple(f"{field}: {value}" for field, value in tags if field in fields)[:MOST_TAGS]
            for query_id, tags in found.items()
        }
    return {
        query.query_id: tuple(name for name, holds in TRAITS.items() if holds(query.text))
        for query in queries
    }


def _read_tags(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [
        (field, value)
        for field, values in metadata.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return [
        (field[:_LONGEST], value)
        for field, value in pairs
        if isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST
    ]


def slice_queries(
    tags: Sequence[Sequence[str]], before: np.ndarray, after: np.ndarray, groups: np.ndarray
) -> tuple[Slice, ...]:
    """Return the change in each slice of at least LEAST_QUERIES distinct queries, the worst first.

    tags: of each query. before, after: the primary metric of each query, float (n,). p is corrected over the slices so
    that at most 5 % of those called clear are expected to be none (Benjamini & Hochberg 1995).
    """
    counts = Counter(tag for own in tags for tag in dict.fromkeys(own))
    rows = {
        tag: [row for row, own in enumerate(tags) if tag in own] for tag, _ in counts.most_common(MOST_TAGS)
    }
    rows = {
        tag: at
        for tag, at in rows.items()
        if len(set(groups[at].tolist())) >= LEAST_QUERIES and len(at) < len(tags)
    }
    found = {}
    for tag, at in rows.items():
        _, own = np.unique(groups[at], return_inverse=True)
        [found[tag]] = differences(before[at][:, None], after[at][:, None], own)
    corrected = benjamini_hochberg([change.p_value for change in found.values()])
    slices = [
        Slice(
            tag=tag,
            queries=len(rows[tag]),
            before=float(before[rows[tag]].mean()),
            after=float(after[rows[tag]].mean()),
            change=change,
            p_corrected=adjusted,
        )
        for (tag, change), adjusted in zip(found.items(), corrected, strict=True)
    ]
    return tuple(sorted(slices, key=lambda each: each.change.delta))

"""One field of a row: the same rules for every field of every kind of file.

Null and NaN are empty, a number is read as its text, and a whole float is a whole number. What else is not text is
refused with its place.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

from rag_inspect.errors import CorpusError

MAX_GRADE = 1000  # nobody grades finer, and gains of 2^grade must stay finite
MAX_NESTING = 32  # of metadata
_GRADE = re.compile(r"[+-]?[0-9]{1,4}(\.0*)?")
_FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]+(e[+-]?[0-9]+)?", re.IGNORECASE)
_BLANK_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
_BLANK_LETTERS = frozenset(
    "\u115f\u1160\u2800\u3164\uffa0\u034f\ufe0e\ufe0f"
)  # fillers, and marks on nothing


def read_text(place: str, name: str, value: object) -> str:
    """Return the value as text. Raises CorpusError for a list, an object, true or false, and half a surrogate pair."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise CorpusError(f'{place} has "{name}" of type {type(value).__name__}; expected a string')
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f'{place} has half a surrogate pair in "{name}"; the text is not valid Unicode'
        ) from error
    return text


def read_id(place: str, name: str, value: object) -> str:
    """Return the id as text. Raises CorpusError for an empty one, and for 1.5 and 1e999, whose text nobody can be sure of."""
    if isinstance(value, float) and math.isinf(value):
        raise CorpusError(f'{place} has a "{name}" that is too large for a number; write it as a string')
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        raise CorpusError(f'{place} has "{name}" of type float; expected a string')
    text = read_text(place, name, value)
    if not text.strip():
        raise CorpusError(f"{place} has an empty {name}; every row needs its own")
    return text


def read_grade(place: str, value: object) -> int:
    """Return a whole grade: 1, "1" and 1.0 are 1. Raises CorpusError for 0.5 and for what is no number."""
    text = repr(value) if isinstance(value, bool) else "" if value is None else str(value).strip()
    if _GRADE.fullmatch(text) and abs(grade := int(text.partition(".")[0])) <= MAX_GRADE:
        return grade
    expected = f"expected a whole number of at most {MAX_GRADE}"
    if _FRACTION.fullmatch(text):
        expected += " (nDCG and the gold grade count in whole steps): multiply all grades, or round them"
    raise CorpusError(f"{place} has the grade {text[:40]!r}; {expected}")


def read_metadata(place: str, value: object) -> dict[str, Any]:
    """Return an object without NaN and infinity. A string holds the object as JSON, as tables keep it.

    Raises CorpusError for another type, half a surrogate pair, or deeper nesting than anybody means.
    """
    if isinstance(value, str):
        value = _parse_object(value)
    elif isinstance(value, float) and not math.isfinite(value):
        value = None
    if not isinstance(value or {}, dict):
        raise CorpusError(f"{place} has metadata of type {type(value).__name__}; expected an object")
    found = _clean(place, value or {}, MAX_NESTING)
    assert isinstance(found, dict)
    return found


def is_blank(text: str) -> bool:
    """Return whether nothing in the text can be seen: white space, zero-width characters, fillers."""
    return all(
        letter in _BLANK_LETTERS or unicodedata.category(letter) in _BLANK_CATEGORIES for letter in text
    )


def _parse_object(text: str) -> Any:
    if is_blank(text):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _clean(place: str, value: object, depth: int) -> object:
    if depth == 0:
        raise CorpusError(f"{place} has metadata nested more than {MAX_NESTING} deep; flatten it")
    if isinstance(value, dict):
        return {
            read_text(place, "metadata", key): _clean(place, part, depth - 1) for key, part in value.items()
        }
    if isinstance(value, list):
        return [_clean(place, part, depth - 1) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return read_text(place, "metadata", value) if isinstance(value, str) else value

"""Error messages for a bad replay: the file, the place in it, what is there, what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from rag_inspect.errors import InputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def refuse(name: str, place: tuple[int | str, ...], found: str, expected: str) -> NoReturn:
    """Raise an InputError with the file, the place in it, what is there and what was expected."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{_one_line(step)}" for step in place)
    raise InputError(f"{name}: {''.join(steps).strip('.') or 'the document'} {found}; expected {expected}")


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:60])


_KINDS = {
    "string_type": "a string", "int_type": "a whole number", "float_type": "a number", "list_type": "a list",
    "dict_type": "an object", "model_type": "an object",
}  # fmt: skip


def explain(wrong: ErrorDetails) -> str:
    """Write a pydantic error as "what is there; expected what"; long values are cut."""
    kind, value, limits = wrong["type"], wrong["input"], wrong.get("ctx", {})
    if kind in _KINDS:
        return f"is a {type(value).__name__}; expected {_KINDS[kind]}"
    if kind == "value_error":
        return str(limits["error"])
    if kind == "literal_error":
        return f"is {_show(value)}; expected one of {limits['expected']}"
    if kind == "string_unicode":
        return "has half a surrogate pair; expected valid Unicode"
    limit = next((f"{words} {limits[key]:,}" for key, words in _LIMITS.items() if key in limits), "")
    if kind in {"too_long", "too_short"}:
        return f"has {len(value):,} entries; expected {limit}"
    if kind in {"string_too_long", "string_too_short"}:
        return f"has {len(value):,} characters; expected {limit}"
    return f"is {_show(value)}; expected {limit or 'a finite number'}"


_LIMITS = {
    "ge": "at least", "le": "at most", "min_length": "at least", "max_length": "at most",
}  # fmt: skip


def _show(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:40])
    if isinstance(value, int) and abs(value) >= 10**18:
        return "huge"
    return f"{value}" if isinstance(value, int | float) else f"a {type(value).__name__}"

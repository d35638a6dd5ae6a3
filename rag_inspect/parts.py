"""Split a passage into the parts that an explanation leaves out, and a query into its words, with exact offsets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from rag_inspect.types import Passage, Span

MOST = 40  # parts of a passage, and words of a query
WINDOW = 8  # words of a part, where there is neither a sentence nor a clause to go by
_CLAUSE = regex.compile(r"(?<=[,;:–—，、；：،؛])\s*")
_WORD = regex.compile(r"\S+")
# Unicode's own word boundaries: a Chinese or Thai word that no space ends is a run of its letters there.
_QUERY_WORD = regex.compile(r"\b\w(?:\B.)*", regex.WORD | regex.V1)


@dataclass(frozen=True)
class Split:
    """The parts of a text, in order; `found` is how many there were before neighbours were joined."""

    spans: list[Span]
    found: int


def split_passage(passage: Passage, language: str = "en", end: int | None = None) -> Split:
    """Split `passage.full_text` into at most MOST parts: its title, then its sentences, up to the character `end`.

    A text of one sentence is split at its clauses, one of one clause into windows of WINDOW words. Neighbours are
    joined, the shortest first, until there are few enough. No part is blank; white space between parts is in none.
    """
    whole = passage.full_text
    body = len(whole) - len(passage.text)
    limit = len(whole) if end is None else end
    title = _trim(whole, 0, len(passage.title))
    cuts = _split_body(passage.text[: max(0, limit - body)], language)
    spans = [span for start, stop in cuts if (span := _trim(whole, body + start, body + stop))]
    joined = _join(whole, spans, MOST - bool(title))
    return Split([*([title] if title else []), *joined], len(spans) + bool(title))


def split_query(query: str) -> Split:
    """Split a query into its words, at most MOST: neighbours are joined, the shortest first."""
    spans = [Span(found.start(), found.end(), found[0]) for found in _QUERY_WORD.finditer(query)]
    return Split(_join(query, spans, MOST), len(spans))


def leave_out(text: str, spans: Iterable[Span]) -> str:
    """Return the text without these parts."""
    kept, at = [], 0
    for span in sorted(spans, key=lambda span: span.start):
        kept.append(text[at : span.start])
        at = span.end
    return "".join([*kept, text[at:]])


def _split_body(text: str, language: str) -> list[tuple[int, int]]:
    sentences = [cut for cut in _find_sentences(text, language) if text[cut[0] : cut[1]].strip()]
    if len(sentences) > 1:
        return sentences
    clauses = list(pairwise([0, *(found.end() for found in _CLAUSE.finditer(text)), len(text)]))
    clauses = [(start, stop) for start, stop in clauses if text[start:stop].strip()]
    return clauses if len(clauses) > 1 else list(_cut_windows(text))


def _find_sentences(text: str, language: str) -> Iterator[tuple[int, int]]:
    from sentencex import get_sentence_boundaries

    readable = text.encode("utf-8", "replace").decode(
        "utf-8"
    )  # half a surrogate pair becomes one question mark
    for found in get_sentence_boundaries(language, readable):
        yield found["start_index"], found["end_index"]


def _cut_windows(text: str) -> Iterator[tuple[int, int]]:
    """Yield windows of WINDOW words, or smaller ones, so that there are at least two."""
    words = [(found.start(), found.end()) for found in _WORD.finditer(text)]
    if len(words) == 1 and len(text) > 2 * WINDOW:  # no spaces: letters are what there is
        words = [(at, at + 1) for at in range(*words[0])]
    size = min(WINDOW, max(1, (len(words) + 1) // 2))
    for at in range(0, len(words), size):
        some = words[at : at + size]
        yield some[0][0], some[-1][1]


def _trim(text: str, start: int, end: int) -> Span | None:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    part = part.strip()
    return Span(start, start + len(part), part) if part else None


def _join(text: str, spans: Sequence[Span], most: int) -> list[Span]:
    """Join neighbours, those that are shortest together first, until there are at most `most`."""
    joined = list(spans)
    while len(joined) > most:
        lengths = [after.end - before.start for before, after in pairwise(joined)]
        at = lengths.index(min(lengths))
        start, end = joined[at].start, joined[at + 1].end
        joined[at : at + 2] = [Span(start, end, text[start:end])]
    return joined

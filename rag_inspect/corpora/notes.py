"""What whoever searches or evaluates a corpus should know of its files: what was left out, and what goes nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rag_inspect.types import Corpus
from rag_inspect.words import format_count

MAX_CHARACTERS = 900  # of one note; a replay takes 1,000


def note_search(corpus: Corpus) -> tuple[str, ...]:
    """What a search goes without: rows and files that are not read, and splits that cannot be."""
    broken = (
        f"The split {split} cannot be read, and its judgements are missing here: {fault}."
        for split, fault in corpus.broken_splits.items()
    )
    return _shorten((*corpus.notes, *broken))


def note_evaluation(corpus: Corpus, split: str) -> tuple[str, ...]:
    """What an evaluation of this split goes without. Raises CorpusError if the split cannot be read."""
    return _shorten((*corpus.notes, *describe_strays(corpus, split)))


def describe_strays(corpus: Corpus, split: str) -> Iterator[str]:
    """Yield one sentence for stray passages and one for stray queries, with the count and the first id.

    Raises CorpusError if the split cannot be read.
    """
    qrels = corpus.splits[split]
    judged = (passage_id for grades in qrels.values() for passage_id in grades)
    for ids, known, words in (
        (judged, corpus.passage_by_id, ("passage", "passages")),
        (qrels, corpus.query_by_id, ("query", "queries")),
    ):
        strays = _find_strays(ids, known)
        if strays:
            counted = format_count(len(strays), *words)
            yield f'The split {split} judges {counted} that the corpus does not have; the first is "{strays[0][:80]}".'


def _shorten(notes: Iterable[str]) -> tuple[str, ...]:
    return tuple(note if len(note) <= MAX_CHARACTERS else f"{note[: MAX_CHARACTERS - 1]}…" for note in notes)


def _find_strays(ids: Iterable[str], known: Iterable[str]) -> list[str]:
    known = set(known)
    return list(dict.fromkeys(each for each in ids if each not in known))

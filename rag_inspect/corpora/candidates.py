"""Recorded candidates: rankings that came with a corpus as `candidates/NAME.trec`, a TREC run of whatever retriever."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rag_inspect.corpora.faults import raise_fault
from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus, Ranking
from rag_inspect.words import format_count

FOLDER = "candidates"
LARGEST_SCORE = 1e15  # beyond it, scores that differ by 1 are equal
_ROW = "query Q0 passage rank score tag"


@dataclass(frozen=True)
class RecordedRun:
    """A run over one corpus: `rankings` by query id, and the tag that its system gave itself."""

    tag: str
    rankings: Mapping[str, Ranking]
    notes: tuple[str, ...] = ()


def list_recorded(corpus: Corpus) -> dict[str, Path]:
    """Return the files of recorded candidates beside the corpus, by name."""
    folder = corpus.path / FOLDER if corpus.path and corpus.path.is_dir() else None
    found = sorted(folder.glob("*.trec")) if folder and folder.is_dir() else []
    return {path.stem: path for path in found}


def read_run(corpus: Corpus, path: Path) -> RecordedRun:
    """Read a TREC run in `path`, inside the corpus's folder. Passages are sorted by score, equal scores by rank.

    Passages that the corpus lacks are left out and counted in a note, and so is a passage that a query has twice.
    Raises CorpusError at a line that is none of a run, or if no line is left.
    """
    found: dict[str, dict[str, tuple[float, int]]] = {}
    tag, unknown, repeated = "", 0, 0
    for query_id, passage_id, key, name in _read_rows(CorpusFile(path.parent.parent, path)):
        tag = name
        ranked = found.setdefault(query_id, {})
        if passage_id not in corpus.passage_by_id:
            unknown += 1
        elif passage_id in ranked:
            repeated += 1
        else:
            ranked[passage_id] = key
    if not any(found.values()):
        raise CorpusError(
            f"{path} has no passage of {corpus.name}; expected lines `{_ROW}` with ids of its passages"
        )
    counts = (
        (unknown, "line names a passage", "lines name a passage", "that the corpus lacks"),
        (repeated, "line repeats a passage", "lines repeat a passage", "of its query"),
    )
    notes = tuple(
        f"{path.name}: {format_count(count, one, many)} {what}; left out."
        for count, one, many, what in counts
        if count
    )
    rankings = {query_id: _rank(scores) for query_id, scores in found.items()}
    return RecordedRun(tag, rankings, notes)


def _rank(scores: Mapping[str, tuple[float, int]]) -> Ranking:
    ordered = sorted(scores.items(), key=lambda item: item[1])
    return Ranking.of([(passage_id, -falling) for passage_id, (falling, _) in ordered])


def _read_rows(file: CorpusFile) -> Iterator[tuple[str, str, tuple[float, int], str]]:
    """Yield (query id, passage id, (-score, rank), tag) of each line."""
    for place, line in file.read_lines(raise_fault):
        if not line.strip():
            continue
        cells = line.split()
        try:
            query_id, _, passage_id, rank, score, tag = cells
            key = -float(score), int(rank)
        except ValueError:
            key = (math.nan, 0)
        if not abs(key[0]) <= LARGEST_SCORE:
            raise CorpusError(f"{place} is no line of a TREC run ({line.strip()[:80]!r}); expected `{_ROW}`")
        yield query_id, passage_id, key, tag

"""The formats a corpus can be in. A format is one module with its readers, and one row of FORMATS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rag_inspect.corpora import beir
from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to keep a corpus on disk: all that the rest of the house has to know of it."""

    name: str
    needs: str  # what a path must hold to be in this format, in words
    holds: Callable[[Path], bool]
    read: Callable[[Path], Corpus]  # raises CorpusError at the first broken line
    files: Callable[[Path], list[Path]]  # those that `read` reads: the corpus changes when one of them does
    line_numbers: Callable[[Path], dict[str, str]]  # `file:line id` of every query and passage, by id


FORMATS = {
    row.name: row
    for row in (
        Format(
            name="beir",
            needs="BEIR needs a corpus.jsonl",
            holds=beir.is_beir,
            read=beir.read_beir,
            files=beir.list_files,
            line_numbers=beir.line_numbers,
        ),
    )
}


def find_format(path: Path) -> Format | None:
    """The format of the corpus at this path; None where there is no corpus in any."""
    return next((row for row in FORMATS.values() if row.holds(path)), None)


def read_path(path: Path) -> Corpus:
    """The corpus at this path, whatever its format. Raises CorpusError where there is none, or a broken one."""
    found = find_format(path)
    if found is None:
        needs = "; ".join(row.needs for row in FORMATS.values())
        raise CorpusError(f"{path} is not a corpus in any known format ({', '.join(FORMATS)}); {needs}")
    return found.read(path)

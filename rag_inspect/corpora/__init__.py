"""The formats of a corpus. Each format is a module with its readers, and a row of FORMATS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rag_inspect.corpora import beir
from rag_inspect.corpora.faults import Report, raise_fault
from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to keep a corpus on disk: everything the rest of the package needs to know about it."""

    name: str
    needs: str  # what a path must contain to be in this format, in words
    holds: Callable[[Path], bool]
    read: Callable[[Path, Report], Corpus]  # reports each broken row; raises CorpusError without any passages
    files: Callable[[Path], list[Path]]  # the files that `read` reads: if one changes, the corpus changes
    line_numbers: Callable[[Path], dict[str, str]]  # `file:line id` of every query and passage, by id
    describe: Callable[[Path], str]  # what a path that is not in this format has that may have been meant


FORMATS = {
    row.name: row
    for row in (
        Format(
            name="beir",
            needs="BEIR needs a corpus.jsonl",
            holds=beir.is_beir,
            read=beir.read_beir,
            files=beir.list_files,
            line_numbers=beir.find_line_numbers,
            describe=beir.describe_folder,
        ),
    )
}


def find_format(path: Path) -> Format | None:
    """Return the format of the corpus at this path, or None."""
    return next((row for row in FORMATS.values() if row.holds(path)), None)


def read_path(path: Path, report: Report = raise_fault) -> Corpus:
    """Read the corpus at this path, whatever its format. Raises CorpusError if there is none, or if it is broken.

    With a `report` of your own, broken rows go there and the corpus has the others.
    """
    found = find_format(path)
    if found is None:
        needs = "; ".join(row.needs for row in FORMATS.values())
        seen = "".join(f". {words}" for row in FORMATS.values() if (words := row.describe(path)))
        raise CorpusError(f"{path} is not a corpus in any known format ({', '.join(FORMATS)}); {needs}{seen}")
    return found.read(path, report)

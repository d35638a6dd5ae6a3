"""Which files of a folder hold the passages, the queries and the qrels; and which were seen and are not read.

BEIR: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv. The same under the names and kinds that exports of MS MARCO,
ir_datasets and Hugging Face give them; each may be gzipped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.corpora.rows import KINDS, find_kind
from rag_inspect.errors import CorpusError

STEMS = {"passages": ("corpus", "collection"), "queries": ("queries",)}
QRELS_KIND = ".tsv"  # BEIR's: read first where a split is there in several kinds
FOLDERS = ("corpus", "queries", "qrels", "data")  # looked into for files that somebody may expect to be read
OWN = frozenset({"recorded.json", "spans.jsonl", "judgements.jsonl"})
PARQUET = "Parquet; pandas.read_parquet(…).to_json(…, orient='records', lines=True) makes JSON Lines of it"
UNREAD = {".parquet": PARQUET, ".arrow": "Arrow", ".json": "one JSON document; only JSON Lines are read"}
MOST_FILES = 100_000  # looked at in one folder
LISTED = 5  # files that are not read, named in one note
_ROOT_QRELS = re.compile(r"qrels(?:[._-](?P<split>.+))?")
_EXPECTED = re.compile(r"(corpus|collection|passages|queries|topics|qrels)")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a corpus by what they hold; `unread` has the others' names, each with the reason."""

    folder: Path
    passages: CorpusFile | None = None
    queries: CorpusFile | None = None
    splits: Mapping[str, CorpusFile] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[CorpusFile]:
        """The files that are read."""
        return [file for file in (self.passages, self.queries) if file] + list(self.splits.values())

    def describe_unread(self) -> Iterator[str]:
        """Yield one sentence about the files that are not read, if there are any."""
        if self.unread:
            named = [f"{name} ({why})" for name, why in islice(self.unread.items(), LISTED)]
            more = f", and {len(self.unread) - LISTED:,} more" if len(self.unread) > LISTED else ""
            yield f"Seen in the corpus folder and not read: {', '.join(named)}{more}."


def has_passages(folder: Path) -> bool:
    """Return whether the folder has a file of passages by its name: the quick look at every folder of a library."""
    try:
        names = [*_scan(folder)]
    except OSError:  # no folder, or one that may not be listed
        return False
    return any(_stem(name) in STEMS["passages"] and find_kind(name) in KINDS for name in names)


def find_files(folder: Path) -> Layout:
    """Look at the folder's names; opens nothing. Raises CorpusError if it cannot be listed."""
    names = sorted(_list_names(folder), key=_preference)
    known = [name for name in names if find_kind(name) in KINDS]
    chosen = {
        role: next((name for stem in stems for name in known if _stem(name) == stem), None)
        for role, stems in STEMS.items()
    }
    splits: dict[str, str] = {}
    for name in sorted(known, key=lambda name: ("/" not in name, find_kind(name) != QRELS_KIND)):
        split = _find_split(name)
        if split:
            splits.setdefault(split, name)
    taken = {*chosen.values(), *splits.values()}

    def open_as(name: str | None) -> CorpusFile | None:
        return CorpusFile(folder, folder / name) if name else None

    return Layout(
        folder=folder,
        passages=open_as(chosen["passages"]),
        queries=open_as(chosen["queries"]),
        splits={split: CorpusFile(folder, folder / splits[split]) for split in sorted(splits)},
        unread={
            name: _explain(name, chosen, splits)
            for name in sorted(names)
            if name not in taken and _is_expected(name)
        },
    )


def _list_names(folder: Path) -> Iterator[str]:
    """Yield the names in the folder and one level down in those of FOLDERS, hidden ones left out."""
    try:
        here = folder.resolve(strict=True)
        yield from _scan(here)
        for name in FOLDERS:
            below = here / name
            # A link could lead anywhere: what lies outside is not even listed.
            if below.is_dir() and below.resolve().is_relative_to(here):
                yield from (f"{name}/{found}" for found in _scan(below))
    except (OSError, RuntimeError, ValueError) as error:
        raise CorpusError(f"{folder} cannot be listed: {error}") from error


def _scan(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in islice(entries, MOST_FILES):
            if not entry.name.startswith(".") and entry.name not in FOLDERS:
                yield entry.name


def _preference(name: str) -> tuple[bool, int, bool, str]:
    """Order the names so that the file to read comes first: qrels/ before the root, by kind, plain before gzipped."""
    rank = {kind: at for at, kind in enumerate(KINDS)}
    return "/" not in name, rank.get(find_kind(name), len(rank)), name.endswith(".gz"), name


def _stem(name: str) -> str:
    """Return the name without `.gz` and the kind: corpus of corpus.jsonl.gz; qrels/test of qrels/test.tsv."""
    return name.removesuffix(".gz").removesuffix(find_kind(name))


def _find_split(name: str) -> str | None:
    """Return the split whose judgements the file holds by its name: dev of qrels/dev.tsv, and test of qrels.tsv."""
    folder, _, stem = _stem(name).rpartition("/")
    if folder:
        return stem if folder == "qrels" else None
    found = _ROOT_QRELS.fullmatch(stem)
    return (found["split"] or "test") if found else None


def _is_expected(name: str) -> bool:
    """Return whether somebody may expect this file to be read as a part of the corpus."""
    if name in OWN:
        return False
    kind = find_kind(name)
    if name.endswith((".yaml", ".yml", ".md")):
        return False
    return (
        "/" in name
        or kind in {".jsonl", ".tsv", ".csv", ".parquet", ".arrow"}
        or _EXPECTED.match(name) is not None
    )


def _explain(name: str, chosen: Mapping[str, str | None], splits: Mapping[str, str]) -> str:
    """Say why a file is not read."""
    kind = find_kind(name)
    if kind not in KINDS:
        return UNREAD.get(kind, f"expected {', '.join(KINDS)}")
    split = splits.get(_find_split(name) or "")
    if split:
        return f"{split} is read instead"
    for role, stems in STEMS.items():
        for stem in stems:
            if name.startswith(stem):
                other = chosen[role]
                return f"{other} is read instead" if other else f"rename it to {stem}{kind} to have it read"
    return "not a name of passages, queries or qrels"

"""Which files of a folder hold the passages, the queries and the qrels; and which were seen and are not read.

BEIR: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv. The same under the names and kinds that exports of MS MARCO,
ir_datasets and Hugging Face give them; each may be gzipped. Parquet may also lie in shards and in folders of its own:
corpus/NAME-00000-of-00003.parquet, queries/…, and qrels/SPLIT-… or mteb's data/SPLIT-….
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.corpora.rows import DOCUMENTS, KINDS, find_kind
from rag_inspect.errors import CorpusError

STEMS = {"passages": ("corpus", "collection"), "queries": ("queries",)}
QRELS_KIND = ".tsv"  # BEIR's: read first where a split is there in several kinds
FOLDERS = ("corpus", "queries", "qrels", "data")  # looked into for files that somebody may expect to be read
OWN = frozenset({"recorded.json", "evaluation.json", "spans.jsonl", "judgements.jsonl"})
PARQUET = ".parquet"
UNREAD = {".arrow": "Arrow", ".json": "one JSON document; only qrels are read from one"}
MOST_FILES = 100_000  # looked at in one folder
LISTED = 5  # files that are not read, named in one note
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{16})?\.parquet")
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
        tables = [file for file in (self.passages, self.queries) if file] + list(self.splits.values())
        return [shard for table in tables for shard in table.shards]

    def describe_unread(self) -> Iterator[str]:
        """Yield one sentence about the files that are not read, if there are any."""
        if self.unread:
            named = [f"{name} ({why})" for name, why in islice(self.unread.items(), LISTED)]
            more = f", and {len(self.unread) - LISTED:,} more" if len(self.unread) > LISTED else ""
            yield f"Seen in the corpus folder and not read: {', '.join(named)}{more}."


def has_passages(folder: Path) -> bool:
    """Return whether the folder has a file of passages by its name: the quick look at every folder of a library."""
    try:
        known = [name for name in _list_names(folder, ("corpus",)) if find_kind(name) in KINDS]
    except CorpusError:  # no folder, or one that may not be listed
        return False
    return _choose("passages", known) is not None


def find_files(folder: Path) -> Layout:
    """Look at the folder's names; opens nothing. Raises CorpusError if it cannot be listed."""
    tables = _group_shards(sorted(_list_names(folder), key=_preference))
    known = [name for name in tables if find_kind(name) in KINDS]
    chosen = {role: _choose(role, known) for role in STEMS}
    splits = _find_splits(name for name in tables if find_kind(name) in KINDS | DOCUMENTS)
    taken = {*chosen.values(), *splits.values()}

    def open_as(name: str | None) -> CorpusFile | None:
        return open_table(name) if name else None

    def open_table(name: str) -> CorpusFile:
        first, *rest = (CorpusFile(folder, folder / shard) for shard in tables[name])
        return replace(first, rest=tuple(rest))

    return Layout(
        folder=folder,
        passages=open_as(chosen["passages"]),
        queries=open_as(chosen["queries"]),
        splits={split: open_table(splits[split]) for split in sorted(splits)},
        unread={
            name: _explain(name, chosen, splits)
            for name in sorted(tables)
            if name not in taken and _is_expected(name)
        },
    )


def _group_shards(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the files of each table by the first one's name: its shards in order, with the first that is missing."""
    tables: dict[tuple[str, int], dict[int, str]] = {}
    for name in names:
        shard = _SHARD.fullmatch(name)
        number, count = (int(shard["number"]), int(shard["count"])) if shard else (0, 0)
        key = (shard["stem"], count) if shard and number < count else (name, 0)
        if number in tables.get(key, {}):  # of another export
            key = (name, 0)
        tables.setdefault(key, {})[number] = name
    for (stem, count), shards in tables.items():
        missing = next((number for number in range(count) if number not in shards), None)
        if missing is not None:
            shards[missing] = f"{stem}-{missing:05}-of-{count:05}.parquet"
    ordered = ([shards[number] for number in sorted(shards)] for shards in tables.values())
    return {names[0]: names for names in ordered}


def _choose(role: str, known: Iterable[str]) -> str | None:
    """Return the name of the passages or the queries: one at the root, or a Parquet file in the role's own folder."""
    stems = STEMS[role]
    found = [name for stem in stems for name in known if _stem(name) == stem]
    inside = [name for name in known if find_kind(name) == PARQUET and name.startswith(f"{stems[0]}/")]
    usual = (f"{stems[0]}/{stems[0]}", f"{stems[0]}/test")
    return next(iter(found + sorted(inside, key=lambda name: (_stem(name) not in usual, name))), None)


def _find_splits(known: Iterable[str]) -> dict[str, str]:
    """Return the name of each split's judgements: those in qrels/ come first, then the root's, then mteb's data/."""
    known = list(known)
    exported = any(name.startswith("corpus/") and find_kind(name) == PARQUET for name in known)
    folders = {"qrels": 0, "": 1, "data": 2}
    splits: dict[str, str] = {}
    for name in sorted(known, key=lambda name: (_rank(name, folders), find_kind(name) != QRELS_KIND)):
        folder = name.rpartition("/")[0]
        if folder != "data" or (exported and find_kind(name) == PARQUET):
            split = _find_split(name)
            if split:
                splits.setdefault(split, name)
    return splits


def _rank(name: str, folders: Mapping[str, int]) -> int:
    return folders.get(name.rpartition("/")[0], len(folders))


def _list_names(folder: Path, below: Iterable[str] = FOLDERS) -> Iterator[str]:
    """Yield the names in the folder and one level down in those of FOLDERS, hidden ones left out."""
    try:
        here = folder.resolve(strict=True)
        yield from _scan(here)
        for name in below:
            inside = here / name
            # A link could lead anywhere: what lies outside is not even listed.
            if inside.is_dir() and inside.resolve().is_relative_to(here):
                yield from (f"{name}/{found}" for found in _scan(inside))
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
    shard = _SHARD.fullmatch(name)
    return shard["stem"] if shard else name.removesuffix(".gz").removesuffix(find_kind(name))


def _find_split(name: str) -> str | None:
    """Return the split whose judgements the file holds by its name: dev of qrels/dev.tsv, and test of qrels.tsv."""
    folder, _, stem = _stem(name).rpartition("/")
    if folder:
        return stem if folder in {"qrels", "data"} else None
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
        or kind in {".jsonl", ".tsv", ".csv", PARQUET, ".arrow"}
        or _EXPECTED.match(name) is not None
    )


def _explain(name: str, chosen: Mapping[str, str | None], splits: Mapping[str, str]) -> str:
    """Say why a file is not read."""
    kind, split = find_kind(name), splits.get(_find_split(name) or "")
    if kind not in KINDS and not (kind in DOCUMENTS and split):
        return UNREAD.get(kind, f"expected {', '.join(KINDS)}")
    if split:
        return f"{split} is read instead"
    for role, stems in STEMS.items():
        for stem in stems:
            if name.startswith(stem):
                other = chosen[role]
                return f"{other} is read instead" if other else f"rename it to {stem}{kind} to have it read"
    return "not a name of passages, queries or qrels"

"""The library: it lists the corpora, and reads each once until one of its files changes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path

from rag_inspect.corpora import find_format, read_path
from rag_inspect.errors import CorpusError
from rag_inspect.sessions import LOCAL, Visitor
from rag_inspect.settings import Settings
from rag_inspect.types import Corpus

DEFAULT_CORPUS = "resources"
HELD = 16  # corpora in memory; the least recently used goes first

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, modification time, size and inode of each file of a corpus."""


@dataclass(eq=False)
class _Shelf:
    """The place of one corpus in memory. Only the holder of the lock reads it, so many requests read it once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stamp: Stamp = ()
    corpus: Corpus | None = None


class CorpusLibrary:
    """Corpora by name: the built-in ones, then the user's. Safe to use from many threads."""

    def __init__(self, settings: Settings, held: int = HELD) -> None:
        self._settings, self._held = settings, held
        self._shelves: OrderedDict[tuple[Path, str | None], _Shelf] = OrderedDict()
        self._lock = threading.Lock()

    def list(self, visitor: Visitor = LOCAL) -> dict[str, Path]:
        """Return the path of each corpus by name. A built-in corpus hides a user's of the same name. All visitors see the same.

        The folder that `serve --corpus` opened comes last, under a name that is free.
        """
        found: dict[str, Path] = {}
        for root in (self._settings.corpora_dir, self._settings.home / "corpora"):
            for path in _find_corpora(root):
                found.setdefault(path.name, path)
        opened = self._settings.opened_corpus
        if opened and opened not in {path.resolve() for path in found.values()}:
            found[_find_free_name(opened.name, found)] = opened
        return found

    @property
    def default(self) -> str:
        """The corpus that the app opens on: the folder of `serve --corpus`, else "resources", else the first one listed."""
        listed = self.list()
        for name, path in listed.items():
            if path.resolve() == self._settings.opened_corpus:
                return name
        return DEFAULT_CORPUS if DEFAULT_CORPUS in listed or not listed else next(iter(listed))

    def find(self, name: str, visitor: Visitor = LOCAL) -> Path:
        """Return the path of the corpus; outside public mode the name may be a folder. Raises CorpusError."""
        known, name = self.list(visitor), str(name)
        may_open = bool(name.strip()) and not self._settings.public
        path = known.get(name) or (_parse_folder(name) if may_open else None)
        if path is None:
            what = "no folder" if may_open and _is_path(name) else "unknown corpus"
            remedy = f"choose one of {', '.join(known)}" if known else "the corpora folder is empty"
            raise CorpusError(f'{what} "{name[:80]}"; {remedy}')
        return path

    def open(self, name: str, visitor: Visitor = LOCAL) -> Corpus:
        """Return the corpus under the name it is listed by; reads it again only if one of its files changed.

        Raises CorpusError for an unknown name (the message lists the known ones) and for a broken corpus.
        """
        path, name = self.find(name, visitor), str(name)
        listed = name if self.list(visitor).get(name) == path else None
        shelf = self._take_shelf((path, listed))
        with shelf.lock:
            stamp = _make_stamp(path)  # before reading: a file that changes meanwhile is read again next time
            if shelf.corpus is None or shelf.stamp != stamp:
                shelf.corpus = None  # frees the old one's memory while the new one is read
                shelf.corpus, shelf.stamp = _read_as(listed, path), stamp
            return shelf.corpus

    def _take_shelf(self, key: tuple[Path, str | None]) -> _Shelf:
        with self._lock:
            shelf = self._shelves.setdefault(key, _Shelf())
            self._shelves.move_to_end(key)
            unused = [old for old, other in self._shelves.items() if old != key and not other.lock.locked()]
            for old in unused[: max(0, len(self._shelves) - self._held)]:
                del self._shelves[old]
            return shelf


def _find_free_name(name: str, taken: Container[str]) -> str:
    """Return the name, or the first of NAME-2, NAME-3, … that is free."""
    numbered = (f"{name}-{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def _find_corpora(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in sorted(root.iterdir()) if find_format(path))


def _parse_folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long for a path, an unknown ~user, a zero byte
        return None


def _is_path(name: str) -> bool:
    """Return whether a name is meant as a path: no corpus is listed under a name with a slash in it."""
    return name.startswith((".", "~")) or any(mark in name for mark in {"/", os.sep})


def _make_stamp(path: Path) -> Stamp:
    found = find_format(path)
    return tuple(entry for file in (found.files(path) if found else ()) for entry in _stamp_file(file))


def _stamp_file(file: Path) -> Iterator[tuple[str, int, int, int]]:
    try:
        now = file.stat()
    except OSError:  # deleted since it was listed; the reader reports it if it needs the file
        return
    yield str(file), now.st_mtime_ns, now.st_size, now.st_ino


def _read_as(listed: str | None, path: Path) -> Corpus:
    """Read the corpus and give it the name it is listed by, whatever its card says."""
    corpus = read_path(path)
    if listed in (None, corpus.name):
        return corpus
    card = replace(corpus.card, name=listed, title=corpus.card.title or corpus.name)
    return replace(corpus, card=card)

"""The library: which corpora there are, and each of them read once, until a file of it changes."""

from __future__ import annotations

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
HELD = 16  # corpora in memory; the one unused for longest gives way

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, modification time, size and inode of each file of a corpus."""


@dataclass(eq=False)
class _Shelf:
    """The place of one corpus. Whoever has the lock may read it, so that it is read once however many ask."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stamp: Stamp = ()
    corpus: Corpus | None = None


class CorpusLibrary:
    """Corpora by name: the built-in ones, then what the user brought. Any number of threads may ask at once."""

    def __init__(self, settings: Settings, held: int = HELD) -> None:
        self._settings, self._held = settings, held
        self._shelves: OrderedDict[tuple[Path, str | None], _Shelf] = OrderedDict()
        self._lock = threading.Lock()

    def list(self, visitor: Visitor = LOCAL) -> dict[str, Path]:
        """Where they are, by name; on a clash the built-in one keeps its name. So far every visitor sees the same.

        Last comes the folder that `serve --corpus` opened, under a name nobody has.
        """
        found: dict[str, Path] = {}
        for root in (self._settings.corpora_dir, self._settings.home / "corpora"):
            for path in _corpora_in(root):
                found.setdefault(path.name, path)
        opened = self._settings.opened_corpus
        if opened and opened not in {path.resolve() for path in found.values()}:
            found[_find_free_name(opened.name, found)] = opened
        return found

    @property
    def default(self) -> str:
        """What the app opens on: the folder of `serve --corpus`, else "resources", else the first there is."""
        listed = self.list()
        for name, path in listed.items():
            if path.resolve() == self._settings.opened_corpus:
                return name
        return DEFAULT_CORPUS if DEFAULT_CORPUS in listed or not listed else next(iter(listed))

    def find(self, name: str, visitor: Visitor = LOCAL) -> Path:
        """Where the corpus of that name is; where settings allow it, the name may be a folder. Raises CorpusError."""
        known, name = self.list(visitor), str(name)
        path = known.get(name) or (_folder(name) if name.strip() and not self._settings.public else None)
        if path is None:
            expected = ", ".join(known) or "none: the corpora folder is empty"
            raise CorpusError(f'no corpus "{name[:80]}"; there are {expected}')
        return path

    def open(self, name: str, visitor: Visitor = LOCAL) -> Corpus:
        """The corpus as its files are now, called by the name it is listed under; read again only when one changed.

        Raises CorpusError for an unknown name, with the names there are, and for a corpus that is broken.
        """
        path, name = self.find(name, visitor), str(name)
        listed = name if self.list(visitor).get(name) == path else None
        shelf = self._take_shelf((path, listed))
        with shelf.lock:
            stamp = _stamp(path)  # before the reading: a file that changes meanwhile is read again next time
            if shelf.corpus is None or shelf.stamp != stamp:
                shelf.corpus = None  # the old one may go while the new one is read
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
    """The name itself, or with the first of -2, -3, … that nobody has."""
    numbered = (f"{name}-{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def _corpora_in(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in sorted(root.iterdir()) if find_format(path))


def _folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long for a path, a ~user there is none of, a zero byte
        return None


def _stamp(path: Path) -> Stamp:
    found = find_format(path)
    return tuple(entry for file in (found.files(path) if found else ()) for entry in _file_stamp(file))


def _file_stamp(file: Path) -> Iterator[tuple[str, int, int, int]]:
    try:
        now = file.stat()
    except OSError:  # gone since it was listed: the reader says so, if it minds
        return
    yield str(file), now.st_mtime_ns, now.st_size, now.st_ino


def _read_as(listed: str | None, path: Path) -> Corpus:
    """The corpus at this path under the name it is listed by, whatever its card calls it."""
    corpus = read_path(path)
    if listed in (None, corpus.name):
        return corpus
    card = replace(corpus.card, name=listed, title=corpus.card.title or corpus.name)
    return replace(corpus, card=card)

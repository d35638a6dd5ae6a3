"""Corpora: which there are, and reading one. A format is one reader and one row of FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import chain, count
from pathlib import Path

from rag_inspect.corpora.beir import is_beir, read_beir
from rag_inspect.errors import CorpusError
from rag_inspect.settings import Settings
from rag_inspect.types import Corpus

FORMATS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Corpus]]] = {
    "beir": (is_beir, read_beir),
}
"""name -> (does this path hold such a corpus?, read it)."""


def list_corpora(settings: Settings) -> dict[str, Path]:
    """Folders by name: the built-in ones, then what the user brought; on a clash the built-in one keeps its name.

    Last comes the folder that `serve --corpus` opened, under a name nobody has.
    """
    found: dict[str, Path] = {}
    for root in (settings.corpora_dir, settings.home / "corpora"):
        for path in _folders(root):
            found.setdefault(path.name, path)
    opened = settings.opened_corpus
    if opened and opened not in {path.resolve() for path in found.values()}:
        found[_find_free_name(opened.name, found)] = opened
    return found


def _find_free_name(name: str, taken: Container[str]) -> str:
    """The name itself, or with the first of -2, -3, … that nobody has."""
    numbered = (f"{name}-{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)


def read_corpus(name: str, settings: Settings) -> Corpus:
    """The corpus of that name, or, where settings allow folders, the one in that folder.

    Raises CorpusError for a name there is none of, with the names there are, and for a folder that is broken.
    """
    return read_folder(find_corpus(name, settings))


def find_corpus(name: str, settings: Settings) -> Path:
    """The folder of the corpus of that name, or that folder itself where settings allow; else CorpusError."""
    known, name = list_corpora(settings), str(name)
    path = known.get(name) or (_folder(name) if name.strip() and not settings.public else None)
    if path is None:
        expected = ", ".join(known) or "none: the corpora folder is empty"
        raise CorpusError(f'no corpus "{name[:80]}"; there are {expected}')
    return path


def _folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long for a path, a ~user there is none of, a zero byte
        return None


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (p for p in sorted(root.iterdir()) if any(holds(p) for holds, _ in FORMATS.values()))


def read_folder(path: Path) -> Corpus:
    """The corpus in this folder, in whichever format it is; CorpusError where it is in none, or broken."""
    for holds, read in FORMATS.values():
        if holds(path):
            return read(path)
    raise CorpusError(
        f"{path} is not a corpus in any known format ({', '.join(FORMATS)}); BEIR needs a corpus.jsonl"
    )

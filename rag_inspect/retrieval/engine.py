"""The Chroma of one workbench: opened once, again after a failure, and set aside if it is damaged."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from rag_inspect.files import set_aside
from rag_inspect.retrieval.chroma import (
    DamagedIndexError,
    connect,
    delete_unused,
    forget_open_systems,
    index_folder,
    is_read_only,
)
from rag_inspect.retrieval.dense import DenseRetriever
from rag_inspect.settings import Settings
from rag_inspect.types import Corpus, Embedder, Progress

if TYPE_CHECKING:
    from chromadb.api import ClientAPI


class Engine:
    """Opens indexes over one client. `notes` say what happened to the index folder, for whoever gets results."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self.notes: tuple[str, ...] = ()
        self.generation = 0  # how often the folder was set aside
        self._settings, self._lock = settings, threading.RLock()
        self._client: ClientAPI | None = None
        self._users, self._closing = 0, False  # indexes being opened, or open and not closed
        self._copy: tempfile.TemporaryDirectory[str] | None = None

    def open_index(
        self, corpus: Corpus, embedder: Embedder, report: Progress | None = None
    ) -> DenseRetriever:
        """Return the whole index of this corpus. A damaged one is set aside and built again. Raises RetrievalError."""
        with self._lock:
            self._users += 1
        try:
            index = self._open(corpus, embedder, report)
        except BaseException:
            self._release()
            raise
        index.on_close = self._release
        return index

    def _open(self, corpus: Corpus, embedder: Embedder, report: Progress | None) -> DenseRetriever:
        before = self.generation
        try:
            return _open_index(self._connect(), corpus, embedder, report)
        except DamagedIndexError as error:
            self.set_aside(error, before)
        return _open_index(self._connect(), corpus, embedder, report)

    def set_aside(self, error: DamagedIndexError, generation: int) -> None:
        """Rename the folder, unless somebody did since `generation` was read. Raises the error if it cannot be renamed."""
        with self._lock:
            if generation != self.generation:
                return
            self.forget()
            try:
                kept = set_aside(index_folder(self._home))
            except OSError:
                raise error from None
            self.generation += 1
            self._note(f"{error.damage} It was set aside as {kept}, and a new index is built.")

    def forget(self) -> None:
        """Make the next request open a client anew; indexes that are open keep theirs."""
        with self._lock:
            self._client = None
            forget_open_systems()

    def close(self) -> None:
        """Close the client and delete the copy of a read-only folder, now or when the last index is closed."""
        with self._lock:
            self._closing = True
            if self._users:
                return
            client, self._client = self._client, None
            if client is not None:
                with suppress(Exception):  # nobody uses it any more
                    client.close()  # type: ignore[attr-defined]
            if self._copy:
                self._copy.cleanup()

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._closing:
                self.close()

    @property
    def _home(self) -> Path:
        return Path(self._copy.name) if self._copy else self._settings().home

    def _connect(self) -> ClientAPI:
        with self._lock:
            if self._client is None:
                settings = self._settings()
                if settings.chroma_url is None and not self._copy and is_read_only(settings.home):
                    self._copy_index(settings.home)
                try:
                    self._client = connect(settings, self._home)
                except DamagedIndexError as error:
                    self.set_aside(error, self.generation)
                    self._client = connect(settings, self._home)
            return self._client

    def _copy_index(self, home: Path) -> None:
        """Chroma cannot open a folder without writing to it: work on a copy in the system's temporary folder."""
        self._copy = tempfile.TemporaryDirectory(prefix="rag-inspect-index-", ignore_cleanup_errors=True)
        if index_folder(home).is_dir():
            shutil.copytree(
                index_folder(home),
                index_folder(self._home),
                copy_function=shutil.copyfile,
                dirs_exist_ok=True,
            )
        self._note(
            f"{home} is read-only: searches use a copy of its index, and what is indexed now is not kept."
        )

    def _note(self, words: str) -> None:
        self.notes = (*self.notes, words)


def _open_index(
    client: ClientAPI, corpus: Corpus, embedder: Embedder, report: Progress | None
) -> DenseRetriever:
    retriever = DenseRetriever(client, corpus, embedder)
    retriever.check()
    retriever.index(report)
    delete_unused(client, date.today(), keep=retriever.name)
    return retriever

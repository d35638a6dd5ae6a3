"""Chroma: the client, explanations of its exceptions, and the deletion of unused collections."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, timedelta
from functools import wraps
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rag_inspect.errors import RetrievalError
from rag_inspect.settings import Settings

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

UNUSED_DAYS = 30  # a collection not opened for this long is deleted
OPENED = "opened"  # the key in a collection's metadata: the day it was last opened, as 2026-11-26
_OURS = re.compile(r"[0-9a-f]{24}\.[A-Za-z0-9_-]+\.[0-9a-f]{12}")
_P = ParamSpec("_P")
_T = TypeVar("_T")

_REBUILD = "delete the folder chroma under RAG_INSPECT_HOME and index again"
_REACH = "check that the server of RAG_INSPECT_CHROMA_URL runs, or unset it to use the embedded index"
_SERVER = "check the log of the server of RAG_INSPECT_CHROMA_URL, and run it again"
_DISK = "check the disk and the folder's permissions"
_AGAIN = "run it again; missing passages are embedded first"
_DAMAGE = re.compile(  # SQLite's codes 1 (other tables), 11 (malformed) and 26 (no database), and Chroma's own words
    r"\(code: (1|11|26)\)|malformed|not a database|Inconsistent hash|hnsw|deserializ", re.IGNORECASE
)
_TORN = "<iQQQQ"  # the beginning of header.bin: version, offset, most elements, elements, bytes an element


class DamagedIndexError(RetrievalError):
    """An embedded index that only a new one can replace; `damage` says so without advice."""

    def __init__(self, cause: str) -> None:
        self.damage = f"The Chroma index was damaged, or another program's ({cause})."
        super().__init__(f"the Chroma index is damaged, or another program's ({cause}); {_REBUILD}")


def explain_failures(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn the engine's exceptions, native panics included, into a RetrievalError that says what to do.

    Every other exception passes unchanged: it is a bug of ours.
    """

    @wraps(call)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            explained = _explain(error)
            if explained is None:
                raise
            raise explained from error

    return wrapped


def _explain(error: BaseException) -> RetrievalError | None:
    """Return what to raise for an exception of the engine; None if it is not the engine's."""
    import chromadb.errors as chroma
    import httpx

    if isinstance(error, RetrievalError):
        return None
    cause = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, httpx.HTTPError | ConnectionError | TimeoutError) or "Could not connect" in cause:
        return RetrievalError(f"the Chroma server failed: {cause}; {_REACH}")
    gone = isinstance(error, chroma.NotFoundError | chroma.InvalidArgumentError)
    if isinstance(error, Exception) and _came_from_server(error):
        return RetrievalError(f"the Chroma server failed: {cause}; {_AGAIN if gone else _SERVER}")
    if type(error).__name__ == "PanicException":  # from pyo3: a BaseException that cannot be imported
        return DamagedIndexError(cause)
    if gone:
        return RetrievalError(f"the Chroma index failed: {cause}; {_AGAIN}")
    if isinstance(error, chroma.InternalError | sqlite3.DatabaseError) and _DAMAGE.search(cause):
        return DamagedIndexError(cause)
    if isinstance(error, chroma.ChromaError | sqlite3.DatabaseError | OSError):
        return RetrievalError(f"the Chroma index failed: {cause}; {_DISK}")
    return None


def _came_from_server(error: BaseException) -> bool:
    """Return True if Chroma's network client raised this: its exceptions are those of the embedded engine."""
    names = {frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)}
    return bool(names & {"chromadb.api.fastapi", "chromadb.api.base_http_client"})


@explain_failures
def connect(settings: Settings, home: Path | None = None) -> ClientAPI:
    """Return a client of the embedded Chroma under `home` (default: the settings'), or of the server in the settings.

    Raises RetrievalError; DamagedIndexError if only a new index helps.
    """
    import chromadb

    if settings.chroma_url is not None:
        from rag_inspect.retrieval.server import open_server

        return open_server(settings.chroma_url)
    folder = index_folder(home or settings.home)
    folder.mkdir(parents=True, exist_ok=True)
    if torn := find_torn_file(folder):
        raise DamagedIndexError(f"{torn} is shorter than its header says")
    return _open_folder(str(folder), chromadb.Settings(anonymized_telemetry=False))


def index_folder(home: Path) -> Path:
    """Return the embedded Chroma's folder under the state folder `home`."""
    return home / "chroma"


def is_read_only(home: Path) -> bool:
    """Return True if nothing can be written to the index folder, or where it would be made."""
    existing = next((path for path in (index_folder(home), home, *home.parents) if path.exists()), None)
    return existing is not None and existing.is_dir() and not os.access(existing, os.W_OK)


def find_torn_file(folder: Path) -> Path | None:
    """Return a vector file that is shorter than its header says: the engine would crash the process on it."""
    for header in sorted(folder.glob("*/header.bin")):
        vectors = header.with_name("data_level0.bin")
        with suppress(OSError, struct.error):
            _, _, most, _, size = struct.unpack_from(_TORN, header.read_bytes())
            if not vectors.exists() or vectors.stat().st_size < most * size:
                return vectors
    return None


def forget_open_systems() -> None:
    """Make the next client open its folder anew; Chroma would give it the system of the one before."""
    from chromadb.api.shared_system_client import SharedSystemClient

    SharedSystemClient.clear_system_cache()


def _open_folder(folder: str, settings: Any) -> ClientAPI:
    """Open the embedded client. After a failure, the next client must not get the half-open system."""
    import chromadb

    try:
        return chromadb.PersistentClient(path=folder, settings=settings)
    except BaseException:
        forget_open_systems()
        raise


@explain_failures
def delete_unused(client: ClientAPI, today: date, keep: str) -> list[str]:
    """Delete our collections that nobody has opened for UNUSED_DAYS, except `keep`; returns their names.

    A collection of an earlier version has no date; its days count from today. Other programs' collections stay.
    """
    gone = []
    for collection in _list_ours(client):
        opened = (collection.metadata or {}).get(OPENED)
        if collection.name == keep:
            continue
        if opened is None:
            stamp_opened(collection, today)
        elif _parse_day(opened, today) < today - timedelta(days=UNUSED_DAYS):
            client.delete_collection(collection.name)
            gone.append(collection.name)
    return gone


def _list_ours(client: ClientAPI) -> Iterator[Any]:
    for collection in client.list_collections():
        metadata = collection.metadata or {}
        if _OURS.fullmatch(collection.name) and metadata.keys() <= {"corpus", OPENED}:
            yield collection


def stamp_opened(collection: Any, today: date) -> None:
    """Store in the collection that it was opened today."""
    metadata = dict(collection.metadata or {})
    if metadata.get(OPENED) != today.isoformat():
        collection.modify(metadata=metadata | {OPENED: today.isoformat()})


def _parse_day(text: object, otherwise: date) -> date:
    with suppress(ValueError):
        return date.fromisoformat(str(text))
    return otherwise

"""Chroma: the client, explanations of its exceptions, and the deletion of unused collections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from rag_inspect.errors import RetrievalError
from rag_inspect.settings import Settings

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

PROBE_SECONDS = 5.0  # how long a Chroma server may take to answer
UNUSED_DAYS = 30  # a collection not opened for this long is deleted
OPENED = "opened"  # the key in a collection's metadata: the day it was last opened, as 2026-11-26
_OURS = re.compile(r"[0-9a-f]{24}\.[A-Za-z0-9_-]+\.[0-9a-f]{12}")
_P = ParamSpec("_P")
_T = TypeVar("_T")

_REBUILD = "delete the folder chroma under RAG_INSPECT_HOME and index again"
_REACH = "check that the server of RAG_INSPECT_CHROMA_URL runs, or unset it to use the embedded index"
_DISK = f"check the disk and the folder's permissions, or {_REBUILD}"
_AGAIN = "run it again; missing passages are embedded first"


def explain_failures(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn the engine's exceptions, native panics included, into a RetrievalError that says what to do.

    Every other exception passes unchanged: it is a bug of ours.
    """

    @wraps(call)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            advice = _advise(error)
            if advice is None:
                raise
            cause = " ".join(str(error).split())[:300] or type(error).__name__
            raise RetrievalError(f"the Chroma index failed: {cause}; {advice}") from error

    return wrapped


def _advise(error: BaseException) -> str | None:
    """Say what to do about an exception of the engine; None if it is not the engine's."""
    import sqlite3

    import chromadb.errors as chroma
    import httpx

    if isinstance(error, RetrievalError):
        return None
    if type(error).__name__ == "PanicException":  # from pyo3: a BaseException that cannot be imported
        return _REBUILD
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        ((httpx.HTTPError, ConnectionError, TimeoutError), _REACH),
        ((chroma.NotFoundError, chroma.InvalidArgumentError), _AGAIN),
        ((chroma.InternalError, sqlite3.DatabaseError), _DISK),
        ((chroma.ChromaError, OSError), _DISK),
    )
    found = next((advice for kind, advice in kinds if isinstance(error, kind)), None)
    if found is None and isinstance(error, ValueError) and "Could not connect" in str(error):
        return _REACH
    return found


@explain_failures
def connect(settings: Settings) -> ClientAPI:
    """Return a client of the embedded Chroma under `settings.home`, or of the server at `settings.chroma_url`."""
    import chromadb
    import httpx

    quiet = chromadb.Settings(anonymized_telemetry=False)
    if settings.chroma_url is None:
        folder = settings.home / "chroma"
        folder.mkdir(parents=True, exist_ok=True)
        return _open_folder(str(folder), quiet)
    host, port, ssl = _parse_address(settings.chroma_url)
    # Chroma's own client would wait for an answer forever.
    heartbeat = f"{'https' if ssl else 'http'}://{host}:{port}/api/v2/heartbeat"
    httpx.get(heartbeat, timeout=PROBE_SECONDS).raise_for_status()
    return chromadb.HttpClient(host=host, port=port, ssl=ssl, settings=quiet)


def _parse_address(text: str) -> tuple[str, int, bool]:
    """Return (host, port, whether to use TLS). Raises RetrievalError if the text is not a server's address."""
    try:
        url = urlsplit(text)
        ssl = url.scheme == "https"
        if url.scheme in {"http", "https"} and url.hostname:
            return url.hostname, url.port or (443 if ssl else 8000), ssl
    except ValueError:  # a port above 65535, half an IPv6 address
        pass
    raise RetrievalError(f"RAG_INSPECT_CHROMA_URL is {text[:200]!r}; expected http(s)://host:port")


def _open_folder(folder: str, settings: Any) -> ClientAPI:
    """Open the embedded client. Clears Chroma's cache on failure: the next client would get the half-open system in it."""
    import chromadb
    from chromadb.api.shared_system_client import SharedSystemClient

    try:
        return chromadb.PersistentClient(path=folder, settings=settings)
    except BaseException:
        SharedSystemClient.clear_system_cache()
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

"""Requests to a Chroma server that end in time: Chroma's own client would wait for an answer forever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from rag_inspect.deadline import call_in_time
from rag_inspect.errors import RetrievalError

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

SILENCE_SECONDS = 10.0  # how long a server may send nothing, or take to accept a connection
DEADLINE_SECONDS = 60.0  # how long one request may take in all, however slowly the bytes come


def open_server(url: str, silence: float = SILENCE_SECONDS, deadline: float = DEADLINE_SECONDS) -> ClientAPI:
    """Return a client of the server at `url` whose every request ends in time.

    Raises RetrievalError if `url` is not an address, else what httpx or Chroma raise.
    """
    import chromadb

    host, port, ssl = _parse_address(url)
    # Chroma's client asks the server several things while it is made, before anybody could set a timeout.
    quiet = chromadb.Settings(anonymized_telemetry=False)
    client = call_in_time(
        lambda: chromadb.HttpClient(host=host, port=port, ssl=ssl, settings=quiet), silence, url
    )
    server: Any = client._server  # type: ignore[attr-defined]
    headers = dict(server._session.headers)
    server._session = TimedSession(deadline=deadline, timeout=silence, headers=headers, verify=ssl)
    return client


class TimedSession(httpx.Client):
    """An httpx client whose requests, answers read to the end, take at most `deadline` seconds."""

    def __init__(self, *, deadline: float, **options: Any) -> None:
        super().__init__(**options)
        self._deadline = deadline

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send as httpx does. Raises httpx.ReadTimeout at the deadline."""
        try:
            return call_in_time(
                lambda: httpx.Client.send(self, request, **options), self._deadline, str(request.url)
            )
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error


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

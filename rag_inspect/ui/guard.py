"""The door of the server: which requests reach gradio, and the headers of every answer.

It refuses large bodies, names of the server that are not its own (DNS rebinding), and posts from other sites. It
also knows who is listening: which sessions have an event stream open.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_inspect.settings import THIS_MACHINE
from rag_inspect.ui.uploads import measure_folder

MAX_BODY = 1_000_000  # bytes of any request but an upload
# The same in public mode, where many come: gradio keeps what each session last sent to each of some 40 inputs. It holds
# the longest query (options.PUBLIC_QUERY) as UTF-8 or with \u escapes; nothing else that the page sends is as long.
PUBLIC_BODY = 64_000
MAX_FILE = 20_000_000  # bytes of one uploaded file
MAX_UPLOADS = 200_000_000  # bytes of all uploaded files
_FORM = 100_000  # bytes of an upload's form around its file

_UPLOAD = "/gradio_api/upload"
# Gradio's own, not used by this page: they write files for anybody who asks.
_CLOSED = ("/gradio_api/deep_link", "/gradio_api/process_recording")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# Gradio's page has inline scripts, and runs its events' `js` with eval; Plotly draws with data: and blob: images.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {ancestors}"
)
_SPACE_FRAMES = "'self' https://huggingface.co https://*.hf.space"


class Listeners:
    """The event streams that are open, by session: without one, nobody waits for that session's results.

    A client may take `patience` seconds to open its stream.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self._patience = patience
        self._open: Counter[str] = Counter()

    def has(self, session: str | None) -> bool:
        """Return whether somebody listens to this session."""
        return self._open[session or ""] > 0

    def watch(self, session: str | None) -> Callable[[], bool]:
        """Return a function that says whether the client has left: its time to come is over, and nobody listens."""
        until = time.monotonic() + self._patience
        return lambda: time.monotonic() > until and not self.has(session)

    @contextmanager
    def register(self, session: str) -> Iterator[None]:
        """Count one stream of this session while the block runs."""
        self._open[session] += 1
        try:
            yield
        finally:
            self._open[session] -= 1
            self._open += Counter()  # drops the sessions without a stream


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the door lets through. `hosts` are the server's own names besides this machine's; not checked if public."""

    public: bool = False
    on_space: bool = False
    hosts: frozenset[str] = frozenset()
    uploads: Path = Path()
    max_body: int = MAX_BODY
    max_file: int = MAX_FILE
    max_uploads: int = MAX_UPLOADS


@dataclass(eq=False)
class Guard:
    """ASGI middleware. One per running app; gradio's middleware for CORS and compression is around it."""

    app: ASGIApp
    rules: Rules = field(default_factory=Rules)
    listeners: Listeners = field(default_factory=Listeners)
    before_post: Callable[[], Awaitable[None]] | None = None  # makes room for what the post will leave
    arriving: int = 0  # bytes of uploads that are on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = self._add_headers(send)
        refused = self._refuse(scope)
        if refused:
            await _answer(scope, receive, send, *refused)
            return
        if scope["method"] not in _SAFE and self.before_post:
            await self.before_post()
        session = _find_session(scope)
        if session is None:
            await self._limit_body(scope, receive, send)
            return
        with self.listeners.register(session):
            await self.app(scope, receive, send)

    def _refuse(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and the words of a refusal, if the request's head deserves one."""
        headers, path = Headers(scope=scope), scope["path"].rstrip("/")
        host = headers.get("host", "")
        if not self.rules.public and not _is_own(host, self.rules.hosts):
            return 400, (
                f"this server is not {host[:80]!r}; open it by the address it printed, or start it with "
                "RAG_INSPECT_PUBLIC=on if a proxy in front of it uses that name"
            )
        if scope["method"] not in _SAFE and _is_foreign(headers, self.rules.public):
            return 403, "requests from another site are refused; open the app itself"
        if path.endswith(_CLOSED):
            return 404, "not offered by this app"
        return None

    async def _limit_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, counting the body's bytes: past the limit the app sees a client that left, the client a refusal."""
        upload = scope["path"].rstrip("/").endswith(_UPLOAD)
        limit, words = self.rules.max_body, f"the request is larger than {_megabytes(self.rules.max_body)}"
        if upload:
            limit, words = await anyio.to_thread.run_sync(self._find_upload_limit)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            await _answer(scope, receive, send, 413, words)
            return
        counted, answered = 0, False

        async def receive_counted() -> Message:
            nonlocal counted
            message = await receive()
            arrived = len(message.get("body", b""))
            counted += arrived
            self.arriving += arrived * upload
            return message if counted <= limit else {"type": "http.disconnect"}

        async def send_unless_refused(message: Message) -> None:
            nonlocal answered
            if counted <= limit or answered:
                answered = True
                await send(message)

        try:
            await self.app(scope, receive_counted, send_unless_refused)
        except Exception:
            if counted <= limit or answered:
                raise
        finally:
            self.arriving -= counted * upload
        if counted > limit and not answered:
            await _answer(scope, receive, send, 413, words)

    def _find_upload_limit(self) -> tuple[int, str]:
        """Return how many bytes an upload may have now, and the words if it has more."""
        rules = self.rules
        if not rules.public:
            return rules.max_uploads, f"the upload is larger than {_megabytes(rules.max_uploads)}"
        left = rules.max_uploads - self.arriving - measure_folder(rules.uploads)
        if left < rules.max_file:
            return max(0, left), "this server holds all the uploads it can; try again tomorrow"
        return rules.max_file + _FORM, f"the upload is larger than {_megabytes(rules.max_file)}"

    def _add_headers(self, send: Send) -> Send:
        ancestors = _SPACE_FRAMES if self.rules.on_space else "'self'"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["Content-Security-Policy"] = _POLICY.format(ancestors=ancestors)
            await send(message)

        return send_with_headers


def _is_own(host: str, names: frozenset[str]) -> bool:
    """Return whether this Host header names this server: an IP address, this machine, or one of the names.

    Rebinding needs a name that resolves to us. An address typed as such is no name.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in THIS_MACHINE or name in names:
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_foreign(headers: Headers, behind_proxy: bool) -> bool:
    """Return whether a browser sent this from a page of another site. Programs that are no browsers send neither header.

    Browsers set Sec-Fetch-Site by what they see, also in front of a proxy; over plain HTTP they send only Origin.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    if origin is None:
        return False
    forwarded = headers.get("x-forwarded-host", "").split(",") if behind_proxy else []
    ours = {name.strip().lower() for name in (headers.get("host", ""), *forwarded)} - {""}
    return origin.partition("://")[2].lower() not in ours


def _find_session(scope: Scope) -> str | None:
    """Return the session whose results this request listens to; None if it is no event stream."""
    path, get = scope["path"].rstrip("/"), scope["method"] == "GET"
    if get and path.endswith("/gradio_api/queue/data"):
        found = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])
        return found[0]
    if get and "/gradio_api/call/" in path:  # a call without a session has its event's id as session
        return str(path.rpartition("/")[2])
    return None


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, words: str) -> None:
    await JSONResponse({"detail": words}, status)(scope, receive, send)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1_000_000 else f"{count:,} bytes"

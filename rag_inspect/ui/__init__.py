"""The page: each tab has a builder, and `build_app` puts the tabs together."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from gradio.http_server import LOCALHOST_NAME  # GRADIO_SERVER_NAME, as a Space sets it
from httpx import HTTPError
from starlette.middleware import Middleware

from rag_inspect.errors import InputError
from rag_inspect.settings import Settings
from rag_inspect.ui import api, cards, evaluate, explore
from rag_inspect.ui.errors import check_values
from rag_inspect.ui.guard import MAX_BODY, MAX_FILE, PUBLIC_BODY, Guard, Listeners, Rules
from rag_inspect.ui.mailboxes import Mailboxes
from rag_inspect.ui.theme import css, head, theme
from rag_inspect.ui.uploads import prepare_uploads
from rag_inspect.workbench import Workbench

TABS = (explore, evaluate)

_DAY = 24 * 3600  # seconds; downloads and uploaded replays are deleted after it
_THREADS = 96  # more than searches, evaluations and pages that wait can hold, so that the rest goes on
_SESSIONS = 200  # browser tabs whose last inputs and results gradio keeps
_MASTHEAD = """<div class="ri-masthead"><h1>rag-inspect</h1>
<p>what a reranker does to an embedding search, why, and whether it pays</p></div>"""


def build_app(bench: Workbench, listeners: Listeners | None = None) -> gr.Blocks:
    """Build the whole page and its named API over one workbench. Loads no model.

    `listeners` is what the running app's Guard fills; without it, no API evaluation has a listener.
    """
    with gr.Blocks(title="rag-inspect", analytics_enabled=False, delete_cache=(3600, _DAY)) as app:
        gr.HTML(_MASTHEAD, apply_default_css=False)
        alive = []
        with gr.Tabs(selected=(evaluate if bench.replay else explore).LABEL.lower()):
            for tab in TABS:
                with gr.Tab(tab.LABEL, id=tab.LABEL.lower()) as place:
                    alive += tab.build(bench, app, place)
        for component in alive:  # gradio takes a hidden tab out of the page; these must stay in it
            component.render()
        api.build(bench, listeners or Listeners())
    check_values(app)
    app.queue(max_size=256, default_concurrency_limit=8, api_open=False)
    return app


def serve(
    bench: Workbench,
    host: str | None = None,
    port: int | None = None,
    *,
    root_path: str = "",
    listeners: Listeners | None = None,
    quiet: bool = False,
    **launch: Any,
) -> gr.Blocks:
    """Start the server, then warm up the models in the background. Blocks unless `prevent_thread_lock=True`.

    A host other than this machine turns on public mode (see Settings). `root_path` is the path, or the whole URL, under
    which a proxy in front of the app serves it. Raises InputError if the app cannot listen there.
    """
    host = host or LOCALHOST_NAME
    bench.settings = bench.settings.open_to(host)
    bench.sweep()
    uploads, listeners = prepare_uploads(bench.settings.home / "uploads"), listeners or Listeners()
    rules = _make_rules(
        bench.settings, frozenset({host.lower(), urlsplit(root_path).hostname or ""}), uploads
    )
    _check_port(host, port)
    app = build_app(bench, listeners)
    block = not launch.pop("prevent_thread_lock", False)
    mailboxes = Mailboxes(lambda: app._queue, listeners)
    door = Middleware(Guard, rules=rules, listeners=listeners, before_post=mailboxes.trim)
    try:
        _launch(app, host, port, [door], root_path=root_path or None, **launch)
    except (OSError, ValueError, HTTPError) as error:
        raise InputError(_describe_failure(app, host, port)) from error
    # Each tab would hold a stream that tells when it is closed, and browsers allow six streams a host. Nothing here
    # needs to know: gradio forgets the oldest sessions beyond _SESSIONS.
    app.config["connect_heartbeat"] = False
    bench.warm_up()
    if not quiet:
        print(f"rag-inspect is at {app.local_url} (Ctrl+C stops it)", flush=True)
    if block:
        _wait(app)
    return app


def _wait(app: gr.Blocks) -> None:
    """Wait until the server ends. Raises KeyboardInterrupt on Ctrl+C, which gradio's own `block_thread` swallows."""
    try:
        while app.is_running:
            time.sleep(0.2)
    finally:
        app.close(verbose=False)


def _make_rules(settings: Settings, hosts: frozenset[str], uploads: Path) -> Rules:
    return Rules(
        public=bool(settings.public),
        on_space=settings.on_space,
        hosts=hosts - {""},
        uploads=uploads,
        max_body=PUBLIC_BODY if settings.public else MAX_BODY,
    )


def _check_port(host: str, port: int | None) -> None:
    """Raise InputError if the app cannot listen there."""
    if port is None:
        return
    name = host.strip("[]")
    try:
        with socket.create_server((name, port), family=socket.AF_INET6 if ":" in name else socket.AF_INET):
            pass
    except (OSError, OverflowError) as error:
        words = str(getattr(error, "strerror", None) or error).partition(" (while")[
            0
        ]  # the place stands before it
        raise InputError(
            f"the app cannot listen on {host}, port {port} ({words}); choose another with --port or --host"
        ) from error


def _describe_failure(app: gr.Blocks, host: str, port: int | None) -> str:
    if app.is_running:
        return (
            f"the app listens on {app.local_url} but cannot reach itself there; add {host} to NO_PROXY if this "
            "machine uses a proxy"
        )
    place = f"port {port}" if port is not None else "any of the usual ports"
    return f"the app cannot listen on {host}, {place}; choose another with --port"


def _launch(app: gr.Blocks, host: str, port: int | None, middleware: list[Middleware], **launch: Any) -> None:
    app.launch(
        server_name=host,
        server_port=port,
        theme=theme(),
        css=css(),
        head=head(),
        footer_links=["api", "settings"],
        run_history=False,
        ssr_mode=False,
        share=False,
        quiet=True,  # its words offer a public link
        max_file_size=MAX_FILE,
        max_threads=_THREADS,
        state_session_capacity=_SESSIONS,
        prevent_thread_lock=True,
        app_kwargs={"routes": [cards.card_route()], "middleware": middleware},
        **launch,
    )

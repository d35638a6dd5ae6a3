"""The page: each tab has a builder, and `build_app` puts the tabs together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.http_server import LOCALHOST_NAME  # GRADIO_SERVER_NAME, as a Space sets it

from rag_inspect.errors import InputError
from rag_inspect.ui import api, cards, evaluate, explore
from rag_inspect.ui.theme import css, head, theme
from rag_inspect.workbench import Workbench

TABS = (explore, evaluate)

_DAY = 24 * 3600  # seconds; downloads and uploaded replays are deleted after it
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
_MASTHEAD = """<div class="ri-masthead"><h1>rag-inspect</h1>
<p>what a reranker does to an embedding search, why, and whether it pays</p></div>"""


def build_app(bench: Workbench) -> gr.Blocks:
    """Build the whole page and its named API over one workbench. Loads no model."""
    with gr.Blocks(title="rag-inspect", analytics_enabled=False, delete_cache=(3600, _DAY)) as app:
        gr.HTML(_MASTHEAD, apply_default_css=False)
        alive = []
        with gr.Tabs(selected=(evaluate if bench.replay else explore).LABEL.lower()):
            for tab in TABS:
                with gr.Tab(tab.LABEL, id=tab.LABEL.lower()):
                    alive += tab.build(bench, app)
        for component in alive:  # gradio takes a hidden tab out of the page; these must stay in it
            component.render()
        api.build(bench)
    app.queue(max_size=64, api_open=False)
    return app


def serve(bench: Workbench, host: str | None = None, port: int | None = None, **launch: Any) -> gr.Blocks:
    """Start the server, then warm up the models in the background. Blocks unless `prevent_thread_lock=True`.

    A host other than this machine turns on public mode (see Settings). Raises InputError if the port is
    taken.
    """
    if (host or LOCALHOST_NAME) not in _THIS_MACHINE:
        bench.settings = replace(bench.settings, public=True)
    app = build_app(bench)
    block = not launch.pop("prevent_thread_lock", False)
    try:
        _launch(app, host, port, **launch)
    except OSError as error:
        raise InputError(
            f"the app cannot listen on port {port}: {error}; choose another with --port"
        ) from error
    bench.warm_up()
    if block:
        app.block_thread()
    return app


def _launch(app: gr.Blocks, host: str | None, port: int | None, **launch: Any) -> None:
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
        max_file_size="20mb",
        prevent_thread_lock=True,
        app_kwargs={"routes": [cards.card_route()]},
        **launch,
    )

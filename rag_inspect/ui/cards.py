"""The model cards shipped with the package, each served as a page: cards/mini."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.rerankers import RERANKERS

if TYPE_CHECKING:
    from starlette.requests import Request

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; }} body {{ font: 15px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: 13px; }}
th, td {{ border-bottom: 1px solid #8886; padding: 4px 8px; text-align: left; }} pre {{ overflow-x: auto; }}
</style></head><body>{body}</body></html>"""


def show_card(request: Request) -> Response:
    """Serve the card of the model with this key, or 404."""
    key = request.path_params["key"]
    spec = (EMBEDDERS | RERANKERS).get(key)
    if spec is None or spec.card is None:
        return PlainTextResponse("No model card with this name.", status_code=404)
    from markdown_it import MarkdownIt

    body = (
        MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .render(_read_body(spec.card.read_text("utf-8")))
    )
    return HTMLResponse(_PAGE.format(title=escape(f"{key}: model card"), body=body))


def _read_body(text: str) -> str:
    """Return the card without its YAML front matter."""
    return text.split("\n---\n", 1)[-1] if text.startswith("---\n") else text


def card_route() -> Route:
    """Return the route of the cards. It is relative to the page, so a link to `cards/mini` works under any root path."""
    return Route("/cards/{key}", show_card)

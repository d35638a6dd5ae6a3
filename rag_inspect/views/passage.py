"""One passage of a search, whole: text, id, metadata, both ranks and scores, how much of it was read."""

from __future__ import annotations

import json
from html import escape

from rag_inspect.types import Search
from rag_inspect.views.rankings import heading, sigmoid, spoken

MAX_CHARACTERS = 20_000  # shown; what is longer is cut in the page, and said so
_MAX_FACT = 1_000  # characters of one metadata value


def passage_html(search: Search, passage_id: str) -> str:
    """The panel of one passage; an id that is not among the candidates gives a line that says so."""
    passage = search.passages.get(passage_id)
    if passage is None:
        return '<div class="ri ri-passage"><p>That passage is not among these candidates.</p></div>'
    text = passage.text[:MAX_CHARACTERS]
    cut = len(passage.text) - len(text)
    more = f"\n… {cut:,} more characters" if cut else ""
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in _facts(search, passage_id)
    )
    return (
        f'<div class="ri ri-passage" data-passage="{escape(passage_id)}" role="region" aria-label="Passage">'
        '<button type="button" class="ri-close" aria-label="Close the passage (Escape)">×</button>'
        f"<h4>{escape(heading(passage))}</h4>"
        f'<dl>{facts}</dl><div class="ri-whole" tabindex="0" role="group" aria-label="Its whole text">{escape(text + more)}</div></div>'
    )


def _facts(search: Search, passage_id: str) -> list[tuple[str, str]]:
    cosine = next(hit.score for hit in search.candidates if hit.passage_id == passage_id)
    facts = [
        ("id", passage_id),
        ("embedding rank", f"{search.candidates.rank_by_id[passage_id]} (cosine {cosine:.4f})"),
    ]
    if passage_id in search.logits:
        logit = search.logits[passage_id]
        rank = search.reranked.rank_by_id[passage_id] if search.reranked else "not yet known"
        facts.append(("reranked", f"{rank} (logit {logit:+.4f}, sigmoid {sigmoid(logit):.4f})"))
    facts += [("move", spoken(move)) for move in search.moves if move.passage_id == passage_id]
    if passage_id in search.readings:
        reading = search.readings[passage_id]
        facts.append(("tokens read", f"{reading.read:,} of {reading.total:,}"))
    if passage_id in search.gold:
        facts.append(("judged", "gold"))
    facts += [
        (_short(str(name)), _short(value if isinstance(value, str) else _as_json(value)))
        for name, value in search.passages[passage_id].metadata.items()
    ]
    return facts


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _short(words: str) -> str:
    return f"{words[:_MAX_FACT]} …" if len(words) > _MAX_FACT else words

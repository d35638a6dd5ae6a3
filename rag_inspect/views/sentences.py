"""The lines of text above and below the columns: what happened, how long it took, what to know."""

from __future__ import annotations

from html import escape

from rag_inspect.types import Search

_STEPS = {"embed": "embed the query", "retrieve": "retrieve", "rerank": "rerank"}


def sentence_html(search: Search) -> str:
    """The one sentence first; while scoring goes on, how far it is."""
    if search.reranked:
        return f'<div class="ri ri-lines"><p class="ri-sentence">{escape(search.summary)}</p></div>'
    words = f"{len(search.logits)} / {len(search.candidates)} scored by {search.reranker.key} …"
    return f'<div class="ri ri-lines"><p class="ri-sentence">{escape(words)}</p></div>'


def timings_html(search: Search) -> str:
    """Warm latency by step, cold start apart, what came from the cache, and the notes."""
    steps = [
        f"{words} <b>{search.timings_ms[step]:,.0f} ms</b>"
        for step, words in _STEPS.items()
        if step in search.timings_ms
    ]
    if search.cached_pairs or search.scored_pairs:
        steps.append(f"{search.scored_pairs} pairs scored, {search.cached_pairs} from the score cache")
    if "load" in search.timings_ms:
        steps.append(f"before that, once: loading <b>{search.timings_ms['load'] / 1000:,.1f} s</b>")
    notes = [*search.notes, *_cuts(search)]
    lines = [" · ".join(steps), *(escape(note) for note in notes)]
    return (
        '<div class="ri ri-lines">'
        + "".join(f'<p class="ri-aside">{line}</p>' for line in lines if line)
        + "</div>"
    )


def aside_html(words: str) -> str:
    """A quiet line: what is warming, what was stopped."""
    return f'<div class="ri ri-lines"><p class="ri-aside">{escape(words)}</p></div>' if words else ""


def _cuts(search: Search) -> list[str]:
    cut = [reading for reading in search.readings.values() if reading.truncated]
    if not cut:
        return []
    worst = max(reading.truncated for reading in cut)
    passages = "1 passage is" if len(cut) == 1 else f"{len(cut)} passages are"
    return [
        f"{passages} longer than {search.reranker.key} reads beside this query: up to {worst:,} tokens were not read."
    ]

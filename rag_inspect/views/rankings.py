"""The two mirrored columns: embedding order, reranked order, and the lines between them, as escaped HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from rag_inspect.types import Hit, Passage, Ranking, RankMove, Search

ROW_HEIGHT = 58  # px; static/rankings.css has the same
_SNIPPET = 220  # characters; CSS cuts to the lines there are


def rankings_html(search: Search) -> str:
    """Both columns of a search at any moment of it; the right one fills in once every logit is there."""
    moves = {move.passage_id: move for move in search.moves}
    left = "".join(_row(search, hit, moves.get(hit.passage_id), "cosine") for hit in search.candidates)
    head_left = _head("Embedding order", f"cosine · {search.embedder.key}", search.candidates)
    if search.reranked:
        right = "".join(_row(search, hit, moves[hit.passage_id], "logit") for hit in search.reranked)
        head_right = _head("Reranked order", f"logit · {search.reranker.key}", search.reranked)
    else:
        right = _partial(search)
        head_right = _head("Reranked order", f"{len(search.logits)} / {len(search.candidates)} scored", None)
    height = ROW_HEIGHT * len(search.candidates)
    return (
        f'<div class="ri ri-rankings" data-query="{escape(search.query.text[:200])}">'
        f'<div class="ri-column ri-before">{head_left}<ol>{left}</ol></div>'
        f'<svg class="ri-gutter" viewBox="0 0 100 {height}" preserveAspectRatio="none" style="height:{height}px"'
        f' aria-hidden="true">{"".join(_line(search, move) for move in search.moves)}</svg>'
        f'<div class="ri-column ri-after">{head_right}<ol>{right}</ol></div></div>'
    )


def chip(move: RankMove) -> str:
    """`#9 → #2 ▲7`, or `=` for a passage that stayed."""
    if not move.delta:
        return "="
    arrow = "▲" if move.delta > 0 else "▼"
    return f"#{move.before} → #{move.after} {arrow}{abs(move.delta)}"


def spoken(move: RankMove) -> str:
    """The same move for those who hear the page."""
    if not move.delta:
        return f"stayed at rank {move.after}"
    return f"moved {'up' if move.delta > 0 else 'down'} {abs(move.delta)}, from rank {move.before} to {move.after}"


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-logit), without overflow at either end."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def heading(passage: Passage) -> str:
    """What a passage is called: its title, or the beginning of its text, or its id."""
    words = " ".join((passage.title or passage.text).split())
    return words[:120] or passage.passage_id


def _head(title: str, measure: str, ranking: Ranking | None) -> str:
    count = f"{len(ranking)} passages · " if ranking else ""
    return f"<h3>{title} <small>{count}{escape(measure)}</small></h3>"


def _row(search: Search, hit: Hit, move: RankMove | None, measure: str) -> str:
    passage = search.passages[hit.passage_id]
    gold = hit.passage_id in search.gold
    classes = ["ri-row"] + ["ri-gold"] * gold + ["ri-last-kept"] * (hit.rank == search.top_n)
    tone = _tone(move, gold)
    label = f"Rank {hit.rank}: {heading(passage)}. {measure} {hit.score:.3f}."
    label += " Gold." * gold + (f" Passage {spoken(move)}." if move else "")
    badge = '<b class="ri-badge">gold</b>' if gold else ""
    mark = f'<span class="ri-chip{tone}">{chip(move)}</span>' if move and measure == "logit" else ""
    return (
        f'<li class="{" ".join(classes)}"><button type="button" data-passage="{escape(hit.passage_id)}"'
        f' aria-label="{escape(label)}"><span class="ri-rank">{hit.rank}</span>'
        f'<span class="ri-words"><span class="ri-title">{badge}{escape(heading(passage))}</span>'
        f'<span class="ri-text">{escape(_snippet(passage))}</span></span>'
        f'<span class="ri-score">{mark}{_score(search, hit, measure)}</span></button></li>'
    )


def _snippet(passage: Passage) -> str:
    return " ".join(passage.text[: 2 * _SNIPPET].split())[:_SNIPPET] if passage.title else ""


def _score(search: Search, hit: Hit, measure: str) -> str:
    """The number and its bar: a cosine against 1, a logit against the range of this ranking."""
    if measure == "cosine":
        share, number, aside = max(0.0, min(1.0, hit.score)), f"{hit.score:.3f}", ""
    else:
        low, high = min(search.logits.values()), max(search.logits.values())
        share = (hit.score - low) / (high - low) if high > low else 1.0
        number, aside = (
            f"{hit.score:+.2f}",
            f'<small title="sigmoid of the logit">σ {sigmoid(hit.score):.3f}</small>',
        )
    bar = f'<i class="ri-bar"><i style="width:{100 * share:.1f}%"></i></i>'
    return f'<span class="ri-number">{number}{aside}</span>{bar}'


def _tone(move: RankMove | None, gold: bool) -> str:
    """Colour means quality: only a gold passage that moved has one."""
    if not (gold and move and move.delta):
        return ""
    return " ri-good" if move.delta > 0 else " ri-bad"


def _line(search: Search, move: RankMove) -> str:
    y1, y2 = ((rank - 0.5) * ROW_HEIGHT for rank in (move.before, move.after))
    gold = move.passage_id in search.gold
    classes = f"ri-line{' ri-moved' * bool(move.delta)}{' ri-gold' * gold}{_tone(move, gold)}"
    path = f"M0 {y1:g} C45 {y1:g} 55 {y2:g} 100 {y2:g}"
    return f'<path class="{classes}" data-passage="{escape(move.passage_id)}" d="{path}"/>'


def _partial(search: Search) -> str:
    """While scoring goes on: the passages that have a logit, in the order so far, without claims of rank."""
    scored: Sequence[tuple[str, float]] = sorted(search.logits.items(), key=lambda pair: -pair[1])
    rows = "".join(
        f'<li class="ri-row ri-waiting"><button type="button" data-passage="{escape(pid)}"><span class="ri-rank">·</span>'
        f'<span class="ri-words"><span class="ri-title">{escape(heading(search.passages[pid]))}</span></span>'
        f'<span class="ri-score"><span class="ri-number">{logit:+.2f}</span></span></button></li>'
        for pid, logit in scored
    )
    waiting = len(search.candidates) - len(scored)
    return rows + '<li class="ri-row ri-waiting ri-empty"></li>' * waiting

"""The HTML of both columns: the first stage's order, the reranked order, and the lines between them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace

from rag_inspect.types import Candidates, Hit, Passage, Ranking, RankMove, Reranking
from rag_inspect.views.formats import format_score, name_order
from rag_inspect.views.templates import render
from rag_inspect.words import format_count

ROW_HEIGHT = 58  # px, as in static/rankings.css
_CAPTION = 90  # characters of the query above the columns, and of each name
_COMPARED = 200  # characters; static/page.js has the same
_SNIPPET = 220  # characters; CSS cuts the rest to the height of the row


def rankings_html(reranking: Reranking) -> str:
    """Render both columns at any moment of a search; the right one is sorted once all scores are known."""
    candidates, scored = reranking.candidates, reranking.ranking
    moves, gold = {move.passage_id: move for move in reranking.moves}, candidates.gold
    unjudged = candidates.unjudged
    before, after = _first_stage_scale(candidates), _reranker_scale(reranking)

    def draw_row(hit: Hit, scale: _Scale) -> _Row:
        passage, last_kept = candidates.passages[hit.passage_id], hit.rank == reranking.top_n
        number = candidates.ranking.rank_by_id[hit.passage_id]
        row = _row(hit, number, passage, moves.get(hit.passage_id), scale, hit.passage_id in gold, last_kept)
        row = replace(row, unjudged=hit.passage_id in unjudged)
        return row if scale.reranked else replace(row, chip=format_parts(candidates, hit.passage_id))

    return render(
        "rankings.html",
        query=candidates.query.text[:_COMPARED],
        of=write_settings(reranking),
        caption=_describe(reranking),
        gold=bool(gold),
        gold_words=_describe_gold(candidates),
        height=ROW_HEIGHT * len(candidates),
        before_title=_capitalise(f"{name_order(candidates.first_stage)} order"),
        before_head=_Head(
            f"{format_count(len(candidates), 'passage', 'passages')} · {before.name} · {candidates.first_stage.key}"
        ),
        after_head=_reranked_head(reranking),
        before=[draw_row(hit, before) for hit in candidates.ranking],
        after=[draw_row(hit, after) for hit in scored] if reranking.complete else [],
        lines=[_line(move, move.passage_id in gold) for move in moves.values()],
        partial=[] if reranking.complete else [_partial_row(candidates, hit) for hit in scored],
        waiting=len(candidates) - len(scored),
    )


def write_settings(reranking: Reranking) -> str:
    """Return in JSON what the controls said, in their order; static/page.js compares it with what they say now."""
    first = reranking.candidates
    names = first.query.text, first.corpus, first.first_stage.key, reranking.reranker.key
    return json.dumps([*(name[:_COMPARED] for name in names), first.top_k, reranking.top_n])


def _describe(reranking: Reranking) -> str:
    """What these are the results of: `“which store …” · resources · minilm → mini`."""
    first = reranking.candidates
    text = " ".join(first.query.text.split())
    short = text if len(text) <= _CAPTION else f"{text[: _CAPTION - 1].rstrip()}…"
    models = f"{first.first_stage.key[:_CAPTION]} → {reranking.reranker.key[:_CAPTION]}"
    return f"“{short}” · {first.corpus[:_CAPTION]} · {models}"


def _describe_gold(candidates: Candidates) -> str:
    """What "gold" means here, or that nobody judged this query."""
    if candidates.gold:
        return "judged to answer this query, in the corpus's eval set (qrels)"
    return "" if candidates.grades else "Nobody judged this query, so no passage is marked as gold."


def format_parts(candidates: Candidates, passage_id: str) -> str:
    """Where each part of a hybrid has a passage: `minilm 14 · bm25 –`; "" for other first stages."""
    return " · ".join(f"{key} {ranks.get(passage_id, '–')}" for key, ranks in candidates.parts.items())


def _capitalise(words: str) -> str:
    return words[:1].upper() + words[1:]


def format_move(move: RankMove) -> str:
    """`#9 → #2 ▲7`, or `=` for a passage that stayed."""
    if not move.delta:
        return "="
    arrow = "▲" if move.delta > 0 else "▼"
    return f"#{move.before} → #{move.after} {arrow}{abs(move.delta)}"


def describe_move(move: RankMove) -> str:
    """Describe a move for a screen reader."""
    if not move.delta:
        return f"stayed at rank {move.after}"
    return f"moved {'up' if move.delta > 0 else 'down'} {abs(move.delta)}, from rank {move.before} to {move.after}"


def sigmoid(score: float) -> float:
    """1 / (1 + e^-score), without overflow at either end."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def title_passage(passage: Passage) -> str:
    """Return the title of a passage, else the beginning of its text, else its id."""
    words = " ".join((passage.title or passage.text).split())
    return words[:120] or passage.passage_id


@dataclass(frozen=True, slots=True)
class _Head:
    """The text beside the title of a column: what the numbers are, and the key of a model card to link to."""

    words: str
    card: str = ""


@dataclass(frozen=True, slots=True)
class _Scale:
    """The name and format of the scores in a column, and the range of its bars."""

    name: str
    low: float
    high: float
    reranked: bool = False
    sigmoid: bool = False

    def width(self, score: float) -> float:
        """Return the length of a bar in percent."""
        share = (score - self.low) / (self.high - self.low) if self.high > self.low else 1.0
        return 100 * max(0.0, min(1.0, share))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A passage in a column. The page knows it by `number_before`, its rank in the first stage."""

    number_before: int
    title: str
    text: str
    rank: int
    gold: bool
    last_kept: bool
    label: str
    number: str
    width: str
    chip: str
    tone: str
    sigmoid: str
    sigmoid_of: str
    unjudged: bool = False


@dataclass(frozen=True, slots=True)
class _PartialRow:
    """A passage that has a score, but no rank yet."""

    number_before: int
    title: str
    number: str


@dataclass(frozen=True, slots=True)
class _Line:
    number_before: int
    classes: str
    path: str


def _reranked_head(reranking: Reranking) -> _Head:
    spec, scored, all_of_them = reranking.reranker, len(reranking.ranking), len(reranking.candidates)
    if not reranking.complete:
        return _Head(f"{scored} / {all_of_them} scored")
    made_of = f": {spec.summary}" if spec.summary else ""
    return _Head(f"{spec.score_name} · {spec.key}{made_of}", card=spec.key if spec.card else "")


def _first_stage_scale(candidates: Candidates) -> _Scale:
    stage = candidates.first_stage
    return _Scale(stage.score_name, *(stage.score_range or _ends(candidates.ranking)))


def _reranker_scale(reranking: Reranking) -> _Scale:
    spec = reranking.reranker
    return _Scale(spec.score_name, *_ends(reranking.ranking), reranked=True, sigmoid=spec.sigmoid)


def _ends(ranking: Ranking) -> tuple[float, float]:
    scores = [hit.score for hit in ranking]
    return min(scores, default=0.0), max(scores, default=0.0)


def _row(
    hit: Hit, number: int, passage: Passage, move: RankMove | None, scale: _Scale, gold: bool, last_kept: bool
) -> _Row:
    score = f"{hit.score:.3f}" if scale.reranked else format_score(scale.name, hit.score)
    label = f"Rank {hit.rank}: {title_passage(passage)}. {scale.name} {score}."
    label += " Gold." * gold + (f" Passage {describe_move(move)}." if move else "")
    return _Row(
        number_before=number,
        title=title_passage(passage),
        text=_snippet(passage),
        rank=hit.rank,
        gold=gold,
        last_kept=last_kept,
        label=label,
        number=f"{hit.score:+.2f}" if scale.reranked else format_score(scale.name, hit.score),
        width=f"{scale.width(hit.score):.1f}",
        chip=format_move(move) if move and scale.reranked else "",
        tone=_tone(move, gold),
        sigmoid=f"{sigmoid(hit.score):.3f}" if scale.sigmoid else "",
        sigmoid_of=f"sigmoid of the {scale.name}",
    )


def _snippet(passage: Passage) -> str:
    return " ".join(passage.text[: 2 * _SNIPPET].split())[:_SNIPPET] if passage.title else ""


def _tone(move: RankMove | None, gold: bool) -> str:
    """Return the colour class: only a gold passage that moved has one."""
    if not (gold and move and move.delta):
        return ""
    return " ri-good" if move.delta > 0 else " ri-bad"


def _line(move: RankMove, gold: bool) -> _Line:
    y1, y2 = ((rank - 0.5) * ROW_HEIGHT for rank in (move.before, move.after))
    classes = f"ri-line{' ri-moved' * bool(move.delta)}{' ri-gold' * gold}{_tone(move, gold)}"
    return _Line(move.before, classes, f"M0 {y1:g} C45 {y1:g} 55 {y2:g} 100 {y2:g}")


def _partial_row(candidates: Candidates, hit: Hit) -> _PartialRow:
    return _PartialRow(
        candidates.ranking.rank_by_id[hit.passage_id],
        title_passage(candidates.passages[hit.passage_id]),
        f"{hit.score:+.2f}",
    )

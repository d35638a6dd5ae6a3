"""The panel of one passage: full text, id, metadata, both ranks and scores, and how much the reranker read."""

from __future__ import annotations

import json

from rag_inspect.types import Reranking, list_readings
from rag_inspect.views.formats import name_order
from rag_inspect.views.rankings import describe_move, sigmoid, title_passage
from rag_inspect.views.templates import render

MAX_CHARACTERS = 20_000  # longer text is cut, and the panel says so
_MAX_FACT = 1_000  # characters of one metadata value


def passage_html(reranking: Reranking, passage_id: str) -> str:
    """Render the panel of a passage, or a line that says that it is not among the candidates."""
    passage = reranking.candidates.passages.get(passage_id)
    if passage is None:
        return '<div class="ri ri-passage"><p>This passage is not among the candidates.</p></div>'
    text = passage.text[:MAX_CHARACTERS]
    cut = len(passage.text) - len(text)
    return render(
        "passage.html",
        number=reranking.candidates.ranking.rank_by_id[passage_id],
        heading=title_passage(passage),
        facts=_facts(reranking, passage_id),
        text=text + (f"\n… {cut:,} more characters" if cut else ""),
    )


def _facts(reranking: Reranking, passage_id: str) -> list[tuple[str, str]]:
    candidates, spec = reranking.candidates, reranking.reranker
    found, stage = candidates.ranking, candidates.first_stage
    measure = f"{stage.score_name} {found.score_by_id[passage_id]:.4f}"
    facts = [
        ("id", passage_id),
        (f"{name_order(stage)} rank", f"{found.rank_by_id[passage_id]} ({measure})"),
        *(
            (f"rank in {key}", str(ranks.get(passage_id, "not found")))
            for key, ranks in candidates.parts.items()
        ),
    ]
    if passage_id in reranking.ranking.score_by_id:
        score = reranking.ranking.score_by_id[passage_id]
        rank = reranking.ranking.rank_by_id[passage_id] if reranking.complete else "not yet known"
        squashed = f", sigmoid {sigmoid(score):.4f}" if spec.sigmoid else ""
        facts.append(("reranked", f"{rank} ({spec.score_name} {score:+.4f}{squashed})"))
    facts += [("move", describe_move(move)) for move in reranking.moves if move.passage_id == passage_id]
    facts += [
        (f"tokens read by {key}", f"{readings[passage_id].read:,} of {readings[passage_id].total:,}")
        for key, readings in list_readings(reranking)
        if passage_id in readings
    ]
    if passage_id in candidates.gold:
        facts.append(("judgement", "gold"))
    facts += [
        (_shorten(str(name)), _shorten(value if isinstance(value, str) else _as_json(value)))
        for name, value in candidates.passages[passage_id].metadata.items()
    ]
    return facts


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _shorten(words: str) -> str:
    return f"{words[:_MAX_FACT]} …" if len(words) > _MAX_FACT else words

"""The panel of one passage: full text, id, metadata, both ranks and scores, and how much the reranker read."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rag_inspect.types import Location, Passage, Reranking, list_readings
from rag_inspect.views.formats import name_order
from rag_inspect.views.rankings import describe_move, sigmoid, title_passage, write_settings
from rag_inspect.views.templates import render

MAX_CHARACTERS = 20_000  # longer text is cut, and the panel says so
_MAX_FACT = 1_000  # characters of one metadata value


def passage_html(reranking: Reranking, passage: Passage, location: Location | None = None) -> str:
    """Render the panel of a passage, which may not be among the candidates; with a location, where it is and why."""
    ranks = reranking.candidates.ranking.rank_by_id
    text, explains = passage.text[:MAX_CHARACTERS], reranking.complete and passage.passage_id in ranks
    cut = len(passage.text) - len(text)
    return render(
        "passage.html",
        number=ranks.get(passage.passage_id, 0),
        search=write_settings(reranking),
        heading=title_passage(passage),
        facts=_facts(reranking, passage, location),
        where=location.words if location else "",
        explains=explains,
        query=reranking.candidates.query.text,
        edited=passage.full_text if explains and len(passage.full_text) <= MAX_CHARACTERS else "",
        text=text + (f"\n… {cut:,} more characters" if cut else ""),
    )


def located_html(reranking: Reranking, location: Location) -> str:
    """Render where a candidate is and why, to be shown in the panel of that passage."""
    ranks = [f"{key} {rank:,}" if rank else f"{key} not found" for key, rank in location.exact_ranks.items()]
    number = reranking.candidates.ranking.rank_by_id.get(location.passage_id, 0)
    return render(
        "located.html",
        number=number,
        search=write_settings(reranking),
        where=location.words,
        ranks=", ".join(ranks),
    )


def _facts(reranking: Reranking, passage: Passage, location: Location | None) -> list[tuple[str, str]]:
    candidates, passage_id = reranking.candidates, passage.passage_id
    facts = [("id", passage_id), *_list_ranks(reranking, passage_id, location)]
    facts += [("move", describe_move(move)) for move in reranking.moves if move.passage_id == passage_id]
    facts += [
        (f"tokens read by {key}", f"{readings[passage_id].read:,} of {readings[passage_id].total:,}")
        for key, readings in list_readings(reranking)
        if passage_id in readings
    ]
    if (grade := candidates.grades.get(passage_id)) is not None:
        facts.append(("judgement", f"{'gold' if grade > 0 else 'not gold'}, grade {grade}"))
    elif candidates.grades:
        facts.append(("judgement", "–"))
    facts += [
        (_shorten(str(name)), _shorten(value if isinstance(value, str) else _as_json(value)))
        for name, value in passage.metadata.items()
    ]
    return facts


def _list_ranks(
    reranking: Reranking, passage_id: str, location: Location | None
) -> Iterator[tuple[str, str]]:
    """Yield the ranks in both stages, and the true ranks of a location, or what the parts of a hybrid have."""
    candidates, spec = reranking.candidates, reranking.reranker
    found, stage = candidates.ranking, candidates.first_stage
    if passage_id in found.rank_by_id:
        measure = f"{stage.score_name} {found.score_by_id[passage_id]:.4f}"
        yield f"{name_order(stage)} rank", f"{found.rank_by_id[passage_id]} ({measure})"
    else:
        yield f"{name_order(stage)} rank", f"not among the {len(candidates)} candidates"
    if location:
        for key, exact in location.exact_ranks.items():
            yield f"true rank in {key}", f"{exact:,}" if exact else "not found"
    else:
        for key, ranks in candidates.parts.items():
            yield f"rank in {key}", str(ranks.get(passage_id, "not found"))
    if passage_id in reranking.ranking.score_by_id:
        score = reranking.ranking.score_by_id[passage_id]
        rank = str(reranking.ranking.rank_by_id[passage_id]) if reranking.complete else "not yet known"
        squashed = f", sigmoid {sigmoid(score):.4f}" if spec.sigmoid else ""
        yield "reranked", f"{rank} ({spec.score_name} {score:+.4f}{squashed})"


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _shorten(words: str) -> str:
    return f"{words[:_MAX_FACT]} …" if len(words) > _MAX_FACT else words

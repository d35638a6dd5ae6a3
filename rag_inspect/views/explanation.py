"""An explanation in words: what a part of a passage does to its score, whether that can be believed, what decides between two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag_inspect.types import Effect, Explanation, Reranking, WhatIf
from rag_inspect.views.passage import MAX_CHARACTERS
from rag_inspect.views.rankings import title_passage, write_settings
from rag_inspect.views.templates import render

NOTHING = 0.005  # a smaller effect shows as 0.00
_QUOTED = 60  # characters of a part that a sentence quotes


@dataclass(frozen=True, slots=True)
class _Painted:
    """A part as it is painted: `strength`, 0 to 1, is that of its colour; `then` the rank without it, if it is another.

    unseen: the part lies past what the first stage reads.
    """

    text: str
    delta: float
    number: str
    then: str
    words: str
    strength: str
    unseen: bool


@dataclass(frozen=True, slots=True)
class _Side:
    """One passage of an explanation; `unread` is the text past what the reranker reads."""

    title: str
    score: str
    parts: list[_Painted]
    words: list[_Painted]
    unread: str


def explained_html(search: Reranking, explained: Sequence[Explanation]) -> str:
    """Render the explanation of a candidate, and beside it that of its rival, if there is one; both may be growing."""
    own, *rivals = explained
    done = sum(each.done for each in explained)
    told = [describe_rivals(own, rival) for rival in rivals if rival.complete]
    sides = [_lay_out(search, each) for each in explained]
    lines = [describe_strongest(own), describe_check(own), *told, *describe_unread(own), *own.notes]
    return render(
        "explained.html",
        number=search.candidates.ranking.rank_by_id.get(own.passage_id, 0),
        search=write_settings(search),
        done=done,
        lines=[line for line in lines if line],
        markdown=write_markdown(search, explained),
        unseen=search.candidates.first_stage.key if any(p.unseen for s in sides for p in s.parts) else "",
        complete=all(each.complete for each in explained),
        progress=f"{done} of {sum(each.total for each in explained)} pairs scored with one part left out …",
        sides=sides,
    )


def _lay_out(search: Reranking, explained: Explanation) -> _Side:
    passage = search.candidates.passages[explained.passage_id]
    end = explained.read.get(search.reranker.key, len(explained.text))
    unread, first = explained.text[end:], search.candidates.first_stage.key
    return _Side(
        title=title_passage(passage),
        score=f"{search.reranker.score_name} {explained.score:.2f}, {format_ordinal(explained.rank)}",
        parts=_paint(explained.parts, explained.rank, "This part", explained.read.get(first)),
        words=_paint(explained.words, explained.rank, "This word"),
        unread=unread[:MAX_CHARACTERS] + ("…" if len(unread) > MAX_CHARACTERS else ""),
    )


def _paint(effects: Sequence[Effect], rank: int, what: str, end: int | None = None) -> list[_Painted]:
    """Paint the effects; `end` is where the first stage's reading ends, None if it reads all or does not tell."""
    largest = max((abs(effect.delta) for effect in effects), default=0.0) or 1.0
    return [
        _Painted(
            text=effect.span.text,
            delta=effect.delta if abs(effect.delta) >= NOTHING else 0.0,
            number=f"{effect.delta:+.2f}",
            then=format_ordinal(effect.rank_without) if effect.rank_without != rank else "",
            words=" ".join(filter(None, [describe_effect(effect, rank, what), describe_shares(effect)])),
            strength=f"{abs(effect.delta) / largest:.2f}",
            unseen=end is not None and effect.span.start >= end,
        )
        for effect in effects
    ]


def outcome_html(search: Reranking, found: WhatIf, done: int) -> str:
    """Render what an edit would do; `done` tells one outcome from the next."""
    number = search.candidates.ranking.rank_by_id.get(found.passage_id, 0)
    words = describe_what_if(found, search.reranker.score_name)
    return render(
        "outcome.html",
        number=number,
        search=write_settings(search),
        done=done,
        words=words,
        notes=found.notes,
    )


def describe_what_if(found: WhatIf, score_name: str) -> str:
    """Say where an edited passage would stand, and how far that is from the edge of the top n."""
    moved = f"be {format_ordinal(found.rank)} instead of {format_ordinal(found.rank_before)}"
    stays = f"stay {format_ordinal(found.rank)}"
    words = f"It would {stays if found.rank == found.rank_before else moved}: {score_name} {found.score:.2f} instead of {found.score_before:.2f}"
    if found.margin is None:
        return f"{words}."
    inside = found.rank <= found.top_n
    where = "above the first passage outside" if inside else "below the last passage in"
    return f"{words}, {abs(found.margin):.2f} {where} the top {found.top_n}."


def describe_effect(effect: Effect, rank: int, what: str = "This sentence") -> str:
    """Say what a part does: `This sentence raises the score by 3.20: without it the passage would be 9th.`"""
    if abs(effect.delta) < NOTHING:
        return f"{what} changes nothing."
    does = "raises" if effect.delta > 0 else "lowers"
    stays = effect.rank_without == rank
    then = f"still be {format_ordinal(rank)}" if stays else f"be {format_ordinal(effect.rank_without)}"
    return f"{what} {does} the score by {abs(effect.delta):.2f}: without it the passage would {then}."


def describe_strongest(explained: Explanation) -> str:
    """Say what the part with the largest effect does; "" while no part is scored."""
    if not explained.parts:
        return ""
    strongest = max(explained.parts, key=lambda effect: abs(effect.delta))
    return describe_effect(strongest, explained.rank, f"“{quote(strongest)}”")


def write_markdown(search: Reranking, explained: Sequence[Explanation]) -> str:
    """Return the explanation as Markdown, for a bug report or a stakeholder."""
    first, model = search.candidates, search.reranker
    lines = [
        f"**{escape_markdown(first.query.text)}** ({first.corpus}, {first.first_stage.key} → {model.key} {model.revision[:12]})"
    ]
    for each in explained:
        lines += [
            "",
            f"`{each.passage_id}`: {model.score_name} {each.score:.2f}, {format_ordinal(each.rank)}",
        ]
        lines += [describe_check(each), *describe_unread(each), *each.notes]
        for head, effects in (("part", each.parts), ("word of the query", each.words)):
            lines += ["", f"| change | without it | {head} |", "|---:|---:|---|"]
            lines += [
                f"| {effect.delta:+.2f} | {format_ordinal(effect.rank_without)} | {escape_markdown(effect.span.text)} |"
                for effect in effects
            ]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """Return a text on one line, with what Markdown would read as more than text escaped."""
    return re.sub(r"([\\`*_{}\[\]<>()#|~])", r"\\\1", " ".join(text.split()))


def describe_check(explained: Explanation) -> str:
    """Say whether the strongest parts carry the score; "" while that is measured."""
    check = explained.check
    if check is None:
        return "It has too few parts to check this explanation." if explained.complete else ""
    measured = (
        f"without the two strongest parts together the score changes by {check.change:.2f}, without two others by "
        f"{check.usual:.2f} on average ({check.draws} draws)"
    )
    if check.carried:
        return f"Checked: {measured}."
    return f"No single sentence carries this score: {measured}."


def describe_shares(effect: Effect) -> str:
    """Say how an effect is made up: `cosine +0.40, word overlap +0.10, cross-encoder +2.70`; "" if of one thing."""
    return ", ".join(f"{name} {share:+.2f}" for name, share in effect.shares.items())


def describe_rivals(one: Explanation, other: Explanation) -> str:
    """Say in one sentence what decides between two passages of one query."""
    first, second = sorted((one, other), key=lambda each: each.rank)
    gap = f"{first.passage_id} is {first.score - second.score:.2f} above {second.passage_id}"
    parts = [*_name_strongest(first, 1), *_name_strongest(second, -1 if _loses(second) else 1)]
    return f"{gap}: {'; '.join(parts)}." if parts else f"{gap}; no part of either changes its score."


def _loses(explained: Explanation) -> bool:
    """Whether some part costs the passage at least half of what its best part brings."""
    deltas = [effect.delta for effect in explained.parts] or [0.0]
    return -min(deltas) >= max(NOTHING, max(deltas) / 2)


def _name_strongest(explained: Explanation, sign: int) -> list[str]:
    strongest = max(explained.parts, key=lambda effect: sign * effect.delta, default=None)
    if strongest is None or sign * strongest.delta < NOTHING:
        return []
    return [
        f"{explained.passage_id} {'has' if sign > 0 else 'loses to'} “{quote(strongest)}” ({strongest.delta:+.2f})"
    ]


def quote(effect: Effect) -> str:
    """Return the beginning of a part, on one line."""
    words = " ".join(effect.span.text.split())
    return words if len(words) <= _QUOTED else f"{words[:_QUOTED].rstrip()}…"


def format_ordinal(rank: int) -> str:
    """Return `1st`, `2nd`, `11th`, `1,203rd`."""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank:,}{ending}"


def describe_unread(explained: Explanation) -> list[str]:
    """Say of each model that reads less than all where its reading ends."""
    whole = len(explained.text)
    return [
        f"{key} reads the first {end:,} of {whole:,} characters."
        for key, end in explained.read.items()
        if end < whole
    ]

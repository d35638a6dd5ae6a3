"""An explanation in words: what a part of a passage does to its score, whether that can be believed, what decides between two."""

from __future__ import annotations

from rag_inspect.types import Effect, Explanation

NOTHING = 0.005  # a smaller effect shows as 0.00
_QUOTED = 60  # characters of a part that a sentence quotes


def describe_effect(effect: Effect, rank: int, what: str = "This sentence") -> str:
    """Say what a part does: `This sentence raises the score by 3.20: without it the passage would be 9th.`"""
    if abs(effect.delta) < NOTHING:
        return f"{what} changes nothing."
    does = "raises" if effect.delta > 0 else "lowers"
    stays = effect.rank_without == rank
    then = f"still be {format_ordinal(rank)}" if stays else f"be {format_ordinal(effect.rank_without)}"
    return f"{what} {does} the score by {abs(effect.delta):.2f}: without it the passage would {then}."


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

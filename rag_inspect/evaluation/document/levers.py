"""What would bring the unreachable gold in, as the document has it; `evaluation.levers` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rag_inspect.words import format_count

NAMED = 3  # levers in the sentence


@dataclass(frozen=True, kw_only=True)
class Lever:
    """Something to change, such as `top_k 50` or `hybrid`, and how many unreachable queries it reaches."""

    name: str
    reaches: int


@dataclass(frozen=True, kw_only=True)
class Levers:
    """The queries whose gold is not among the candidates of `first_stage`, and what reaches those that were examined.

    Examined are those whose gold is in the corpus, if they are not too many. levers: the strongest first. ranks: query id -> first stage -> true rank of its best gold, None if it is not ranked.
    """

    first_stage: str
    unreachable: int
    examined: int
    levers: tuple[Lever, ...]
    found_by_none: int
    ranks: Mapping[str, Mapping[str, int | None]]

    @property
    def words(self) -> str:
        """What they say, in a sentence."""
        some = [lever for lever in self.levers if lever.reaches][:NAMED]
        found = (
            ", ".join(f"{lever.name} reaches {lever.reaches:,}" for lever in some)
            or "nothing here reaches any"
        )
        what = format_count(self.unreachable, "query", "queries")
        if self.examined < self.unreachable:
            what = f"{self.examined:,} of the {self.unreachable:,} queries"
        rest = ""
        if self.found_by_none and some:
            one = self.found_by_none == 1
            rest = (
                f"; {self.found_by_none:,} {'is' if one else 'are'} reached by none of these: read "
                f"{'its' if one else 'their'} gold passages"
            )
        return f"Of {what} that {self.first_stage} does not reach, {found}{rest}."

    def to_json(self) -> dict[str, Any]:
        return {
            "first_stage": self.first_stage,
            "unreachable": self.unreachable,
            "examined": self.examined,
            "levers": [asdict(lever) for lever in self.levers],
            "found_by_none": self.found_by_none,
            "ranks": {qid: dict(ranks) for qid, ranks in self.ranks.items()},
        }

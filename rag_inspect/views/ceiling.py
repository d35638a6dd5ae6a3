"""The ceiling bars of the page and the report: recall@n in stacked parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rag_inspect.evaluation.document import CeilingBar, EvaluationDocument
from rag_inspect.views.formats import format_metric
from rag_inspect.views.palette import ACHIEVED, DOES_NOT_FIT, RECOVERABLE, UNREACHABLE
from rag_inspect.views.systems import name_system


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a bar: its name, its share, also as percentages that add up, its fill, the colour of the words on it."""

    name: str
    share: float
    percent: int
    tenths: int  # of a percent
    fill: str
    ink: str

    @property
    def words(self) -> str:
        """`achieved 82.3%`."""
        return f"{self.name} {self.tenths / 10:.1f}%"

    @property
    def css_class(self) -> str:
        return f"ri-{self.name.replace(' ', '-')}"


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of one system."""

    system: str
    parts: tuple[Part, ...]

    @property
    def spoken(self) -> str:
        """The text of the bar for a screen reader."""
        return f"{self.system}: " + ", ".join(part.words for part in self.parts)


def lay_out_bars(document: EvaluationDocument) -> list[Bar]:
    """Lay out one bar per system, the first stage first."""
    return [Bar(name_system(document, bar.system), _divide(bar)) for bar in document.ceiling_bars]


def describe_parts(document: EvaluationDocument) -> str:
    """Describe the parts of a bar in one line."""
    first = document.ceiling_bars[0]
    words = (
        f"{format_metric(first.metric)}: achieved, recoverable by a perfect reranker, "
        "unreachable (not among the candidates)"
    )
    if document.top_k <= document.top_n:
        words += f"; all {document.top_k} candidates are kept, so reranking changes their order and not {format_metric(first.metric)}"
    if first.does_not_fit > 0:
        words += f"; does not fit: more gold than {document.top_n} passages can hold"
    return words


def share_out(shares: Sequence[float], units: int) -> list[int]:
    """Round shares of a whole to units that add up to the whole: each share gets its floor or one more.

    The largest remainders get one more, as seats are shared out by Hamilton's method. Rounded one by one, three parts
    may make 100.1 %.
    """
    exact = [share * units for share in shares]
    floors = [math.floor(value + 1e-9) for value in exact]  # 0.29 * 100 is 28.999...
    left = round(sum(exact)) - sum(floors)
    by_remainder = sorted(range(len(exact)), key=lambda at: floors[at] - exact[at])
    more = set(by_remainder[: max(0, left)])
    return [floor + (at in more) for at, floor in enumerate(floors)]


def _divide(bar: CeilingBar) -> tuple[Part, ...]:
    parts = [
        ("achieved", bar.achieved, ACHIEVED),
        ("recoverable", bar.recoverable, RECOVERABLE),
        ("unreachable", bar.unreachable, UNREACHABLE),
    ]
    if bar.does_not_fit > 0:
        parts.append(("does not fit", bar.does_not_fit, DOES_NOT_FIT))
    shares = [share for _, share, _ in parts]
    rounded = zip(share_out(shares, 100), share_out(shares, 1000), strict=True)
    return tuple(
        Part(name, share, percent, tenths, *colours)
        for (name, share, colours), (percent, tenths) in zip(parts, rounded, strict=True)
    )

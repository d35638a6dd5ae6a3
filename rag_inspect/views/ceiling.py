"""The ceiling bars of the page and the report: recall@n in stacked parts."""

from __future__ import annotations

from dataclasses import dataclass

from rag_inspect.evaluation.document import CeilingBar, EvaluationDocument
from rag_inspect.views.formats import format_metric, format_share
from rag_inspect.views.palette import ACHIEVED, DOES_NOT_FIT, RECOVERABLE, UNREACHABLE
from rag_inspect.views.systems import name_system


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a bar: its name, its share, its fill and the colour of the words on it."""

    name: str
    share: float
    fill: str
    ink: str

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
        return f"{self.system}: " + ", ".join(
            f"{part.name} {format_share(part.share)}" for part in self.parts
        )


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


def _divide(bar: CeilingBar) -> tuple[Part, ...]:
    parts = (
        Part("achieved", bar.achieved, *ACHIEVED),
        Part("recoverable", bar.recoverable, *RECOVERABLE),
        Part("unreachable", bar.unreachable, *UNREACHABLE),
    )
    return (*parts, Part("does not fit", bar.does_not_fit, *DOES_NOT_FIT)) if bar.does_not_fit > 0 else parts

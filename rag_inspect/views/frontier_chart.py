"""The frontier as SVG for the report, which must not run scripts: one line per system, one point per depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag_inspect.evaluation.document import EvaluationDocument, FrontierPoint
from rag_inspect.views.formats import format_mean, format_metric, format_ms
from rag_inspect.views.palette import LINES
from rag_inspect.views.systems import name_system

_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 900, 20, 270  # the plot area in a view of 920 × 300


def is_timed(document: EvaluationDocument) -> bool:
    """Return True if every point has a latency; otherwise the points stand at their depths."""
    return all(point.latency_ms is not None for point in document.frontier)


@dataclass(frozen=True, slots=True)
class Point:
    """A system at one depth; the point to choose is `ringed`, one with an interpolated latency `hollow`."""

    x: str
    y: str
    label: str
    ringed: bool
    hollow: bool


@dataclass(frozen=True, slots=True)
class Line:
    """The line through the points of one system."""

    name: str
    colour: str
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        return " ".join(f"{point.x},{point.y}" for point in self.points)


@dataclass(frozen=True, slots=True)
class Chart:
    """The input of `frontier_chart.html`; `x_ends` and `y_ends` are the labels at the ends of each axis."""

    axis: str
    lines: tuple[Line, ...]
    x_ends: tuple[str, str]
    y_ends: tuple[str, str]


def lay_out_chart(document: EvaluationDocument) -> Chart:
    """Lay out the primary metric against latency, or against depth if a latency is unknown."""
    points, primary = document.frontier, document.primary
    timed = is_timed(document)
    across = _read_latency if timed else _read_depth
    columns, rows = [across(point) for point in points], [point.metrics[primary] for point in points]
    place_x, place_y = _scale(columns, _LEFT, _RIGHT), _scale(rows, _BOTTOM, _TOP)
    lines = []
    for number, key in enumerate(dict.fromkeys(point.system for point in points)):
        own = [point for point in points if point.system == key]
        places = [(place_x(across(point)), place_y(point.metrics[primary])) for point in own]
        lines.append(
            Line(
                name=name_system(document, key),
                colour=LINES[number % len(LINES)],
                points=tuple(
                    Point(f"{x:.1f}", f"{y:.1f}", _label(point, primary), point.cheapest, point.interpolated)
                    for point, (x, y) in zip(own, places, strict=True)
                ),
            )
        )
    return Chart(
        axis="ms a query, first stage included" if timed else "depth (the latency was not measured)",
        lines=tuple(lines),
        x_ends=(format_ms(min(columns)), format_ms(max(columns))),
        y_ends=(format_mean(min(rows)), format_mean(max(rows))),
    )


def _read_latency(point: FrontierPoint) -> float:
    return point.latency_ms or 0.0


def _read_depth(point: FrontierPoint) -> float:
    return float(point.depth)


def _label(point: FrontierPoint, primary: str) -> str:
    value = format_mean(point.metrics[primary])
    return f"{point.system}, depth {point.depth}: {format_metric(primary)} {value}"


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    return lambda value: start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)

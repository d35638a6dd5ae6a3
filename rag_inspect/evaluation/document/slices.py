"""The change in one slice of the queries, as the document has it; `evaluation.slices` computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rag_inspect.significance import Difference


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The queries with one tag: their mean with the baseline (before) and with the decided system (after)."""

    tag: str
    queries: int
    before: float
    after: float
    change: Difference
    p_corrected: float

    @property
    def clear(self) -> bool:
        """True if the change is clear although several slices were looked at."""
        low, high = self.change.ci95
        return self.p_corrected < 0.05 and not low <= 0 <= high

    def to_json(self) -> dict[str, Any]:
        return {
            "tag": self.tag,
            "queries": self.queries,
            "before": self.before,
            "after": self.after,
            **self.change.to_json(),
            "p_corrected": self.p_corrected,
            "clear": self.clear,
        }

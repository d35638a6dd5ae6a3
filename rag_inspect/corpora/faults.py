"""What happens with a broken row: the reader raises it, or a linter collects it and reads on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rag_inspect.errors import CorpusError

T = TypeVar("T")
Report = Callable[[CorpusError], None]
KEPT = 1000  # faults that are held at once; a damaged file can have one a line


def raise_fault(fault: CorpusError) -> None:
    """Stop at the first fault."""
    raise fault


class Faults:
    """Collects faults: the first ones whole, of the others only the number."""

    def __init__(self) -> None:
        self.kept: list[CorpusError] = []
        self.count = 0

    def __call__(self, fault: CorpusError) -> None:
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(fault)

    def __iter__(self) -> Iterator[str]:
        yield from map(str, self.kept)
        if self.count > len(self.kept):
            yield f"{self.count - len(self.kept):,} more faults are not listed; mend these first"


def read_on(rows: Iterable[T], report: Report) -> Iterator[T]:
    """Yield the rows as far as they can be read, and report what ends them early: a truncated file, a limit."""
    try:
        yield from rows
    except CorpusError as fault:
        report(fault)

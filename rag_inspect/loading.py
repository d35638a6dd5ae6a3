"""Slow things made once, in a thread of their own, while others watch how far they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rag_inspect.types import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """How far a load is: `done` of `total` (0 where nobody knows) of `what`."""

    done: int
    total: int
    what: str

    def __str__(self) -> str:
        if not self.total:
            return self.what
        if self.what.startswith("bytes "):
            return f"{self.what.removeprefix('bytes ')} {self.done / 1e6:,.0f} / {self.total / 1e6:,.0f} MB"
        return f"{self.done:,} / {self.total:,} {self.what}"


class Load(Generic[T]):
    """One making of one thing. Whoever starts it may walk away; it goes on for the next who asks."""

    def __init__(self, make: Callable[[Progress], T], what: str) -> None:
        self.stage = Stage(0, 0, what)
        self.error: BaseException | None = None
        self._made: list[T] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make,), name=what, daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def _run(self, make: Callable[[Progress], T]) -> None:
        try:
            self._made.append(make(self._report))
        except BaseException as error:  # handed to whoever waits, in `value`
            self.error = error
        finally:
            self._over.set()

    def _report(self, done: int, total: int, what: str) -> None:
        self.stage = Stage(done, total, what)

    def watch(self, every: float = 0.2) -> Iterator[Stage]:
        """Stages until it is over; leaving early stops the watching, not the load."""
        while not self._over.wait(every):
            yield self.stage

    def value(self, on_progress: Progress | None = None) -> T:
        """Wait, and hand over what was made; raises what the making raised."""
        for stage in self.watch():
            if on_progress:
                on_progress(stage.done, stage.total, stage.what)
        if self.error:
            raise self.error
        return self._made[0]


class Loads:
    """At most one Load a key; one that failed is tried again when next asked for."""

    def __init__(self) -> None:
        self._loads: dict[Hashable, Load[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[Progress], T], what: str) -> Load[T]:
        """The load of that key, started now if there is none (or the last one failed)."""
        with self._lock:
            load = self._loads.get(key)
            if load is None or (load.over and load.error):
                load = self._loads[key] = Load(make, what)
            return load

    def made(self, key: Hashable) -> bool:
        """True where the thing is there to be used at once."""
        load = self._loads.get(key)
        return load is not None and load.over and load.error is None

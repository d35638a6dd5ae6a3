"""Share what tasks make: one thing per key, closed once nobody uses it and the store holds too much.

A `Store` holds the things that tasks made. To use one, hold a `Lease` on it: a leased thing is never closed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeVar

from rag_inspect.tasks import Stage, Task
from rag_inspect.types import Progress

T = TypeVar("T")


class Lease(Generic[T]):
    """The use of one thing of a store, until `release` or the end of a `with` block."""

    def __init__(self, task: Task[T], give_back: Callable[[float], None]) -> None:
        self.task = task
        self._give_back = give_back
        self._open = threading.Lock()  # acquired once, by the first release

    def watch(self, every: float = 0.2) -> Iterator[Stage]:
        return self.task.watch(every)

    def value(self, on_progress: Progress | None = None) -> T:
        return self.task.value(on_progress)

    def release(self, used: float | None = None) -> None:
        """Return the thing to its store, as last used at this time of `time.perf_counter` (default: now)."""
        if self._open.acquire(blocking=False):
            self._give_back(time.perf_counter() if used is None else used)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


@dataclass(eq=False)
class _Entry:
    task: Task[Any]
    users: int = 0
    used: float = 0.0
    size: float = 0.0

    @property
    def idle(self) -> bool:
        return self.users == 0 and (self.task.over or not self.task.begun)


class Store:
    """Holds at most one task per key; a task that failed or was stopped is made again at the next request.

    The `size` of all things (by default 1 each) may add up to `budget`; beyond it, the least recently used thing
    without a lease is closed. If `abandonable`, a task stops when its last lease is released before it is over.
    `dependents` is a store whose things hold leases of this one; its idle things are closed first.
    """

    def __init__(
        self,
        budget: float = math.inf,
        size: Callable[[Any], float] = lambda made: 1,
        *,
        abandonable: bool = False,
        dependents: Store | None = None,
    ) -> None:
        self._budget, self._size = budget, size
        self._abandonable, self._dependents = abandonable, dependents
        self._entries: dict[Hashable, _Entry] = {}
        self._replaced: list[_Entry] = []  # replaced or forgotten; closed once they are idle
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the things that are made or being made."""
        return len(self._entries)

    def lease(self, key: Hashable, make: Callable[[Task[T]], T], what: str) -> Lease[T]:
        """Return a lease on the thing with this key. If there is none, its task begins at the first `watch` or `value`."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.task.error or (entry.task.stopping and not entry.task.made):
                entry = self._entries[key] = self._new(key, make, what, entry)
            entry.users += 1
        return Lease(entry.task, partial(self._release, key, entry))

    def forget(self, key: Hashable) -> None:
        """Close the thing with this key, now or at its last release; the next request makes it again."""
        with self._lock:
            if entry := self._entries.pop(key, None):
                self._replaced.append(entry)
        self._sweep()

    def close(self) -> None:
        """Stop running tasks and close all things: idle ones now, the others when their last lease is released."""
        with self._lock:
            self._budget = -1
            for entry in self._entries.values():
                if not entry.task.over:
                    entry.task.stop()
        self._sweep()

    def _new(self, key: Hashable, make: Callable[[Task[T]], T], what: str, before: _Entry | None) -> _Entry:
        def work(task: Task[T]) -> T:
            # The one before was told to stop; wait for it, so that two tasks never make one thing.
            if before is not None and before.task.begun:
                for _ in before.task.watch():
                    task.check()
            return make(task)

        if before is not None:
            self._replaced.append(before)
        entry = _Entry(Task(work, what, on_over=lambda: self._remove_ended(key, entry)))
        return entry

    def _remove_ended(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            if entry.task.made:
                entry.size = self._size(entry.task.result)
            elif self._entries.get(key) is entry:
                del self._entries[key]
        self._sweep()

    def _release(self, key: Hashable, entry: _Entry, used: float) -> None:
        task = entry.task
        with self._lock:
            entry.users -= 1
            entry.used = max(entry.used, used)
            if task.made:
                entry.size = self._size(task.result)  # it may have grown, or been an estimate
            if entry.users == 0 and not task.over and (self._abandonable or not task.begun):
                task.stop()
                if not task.begun and self._entries.get(key) is entry:
                    del self._entries[key]
        self._sweep()

    def _sweep(self, everything: bool = False) -> None:
        """Close what exceeds the budget, outside the lock: closing takes time and may release leases of this store."""
        if self._dependents and self._total() > self._budget:
            self._dependents._sweep(everything=True)
        gone: list[_Entry] = []
        with self._lock:
            gone += [entry for entry in self._replaced if entry.idle]
            self._replaced = [entry for entry in self._replaced if not entry.idle]
            while everything or self._total() > self._budget:
                idle = [key for key, entry in self._entries.items() if entry.idle]
                if not idle:
                    break
                gone.append(self._entries.pop(min(idle, key=lambda key: self._entries[key].used)))
        for entry in gone:
            entry.task.close(entry.used)

    def _total(self) -> float:
        return sum(entry.size for entry in list(self._entries.values()))

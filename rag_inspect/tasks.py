"""Run slow work in threads: watch it, stop it, share its result, and close the result when nobody uses it.

A `Task` makes one thing. A `Store` holds the things that tasks made, one per key, and closes unused ones once it
holds too much. To use a thing of a store, hold a `Lease` on it: a leased thing is never closed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeVar

from rag_inspect.errors import RagInspectError
from rag_inspect.types import Progress

T = TypeVar("T")
H = TypeVar("H")


@dataclass(frozen=True)
class Stage:
    """The progress of a task: `done` of `total` (0 if unknown), in words `what`."""

    done: int
    total: int
    what: str

    def __str__(self) -> str:
        if not self.total:
            return self.what
        if self.what.startswith("bytes "):
            return f"{self.what.removeprefix('bytes ')} {self.done / 1e6:,.0f} / {self.total / 1e6:,.0f} MB"
        return f"{self.done:,} / {self.total:,} {self.what}"


class _Cancelled(BaseException):
    """Ends the work of a stopped task; a BaseException, so that no `except Exception` in the work catches it."""


class Task(Generic[T]):
    """Makes one thing in a thread. It begins when somebody first watches it, and goes on if they leave.

    The work is a function that takes the task. It calls `report` or `check` regularly, which end it after `stop`, and
    `hold` on the leases that the made thing needs for as long as it exists.
    """

    def __init__(
        self, make: Callable[[Self], T], what: str, *, on_over: Callable[[], None] = lambda: None
    ) -> None:
        self.what = what
        self.stage = Stage(0, 0, what)
        self.error: BaseException | None = None
        self._work, self._on_over = partial(make, self), on_over
        self._made: list[T] = []
        self._held: list[Lease[Any]] = []
        self._begun = threading.Lock()  # acquired once, by the first to begin
        self._halt, self._over = threading.Event(), threading.Event()

    # For callers that wait for the task

    def start(self) -> Self:
        """Begin, unless it has begun."""
        if self._begun.acquire(blocking=False):
            threading.Thread(target=self._run, name=self.what, daemon=True).start()
        return self

    def watch(self, every: float = 0.2) -> Iterator[Stage]:
        """Yield stages until the task is over. Leaving early does not stop the task."""
        self.start()
        while not self._over.wait(every):
            yield self.stage

    def value(self, on_progress: Progress | None = None) -> T:
        """Wait, then return the made thing; raises what the work raised, or RagInspectError if the task was stopped."""
        for stage in self.watch():
            if on_progress:
                on_progress(stage.done, stage.total, stage.what)
        if self.error:
            raise self.error
        if not self._made:
            raise RagInspectError(f"{self.what} was stopped")
        return self._made[0]

    def stop(self) -> None:
        """Ask the task to end; it does at its next report."""
        self._halt.set()

    @property
    def begun(self) -> bool:
        return self._begun.locked()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    @property
    def made(self) -> bool:
        """True once the thing is made."""
        return self.over and bool(self._made)

    @property
    def stopped(self) -> bool:
        """True if it ended because somebody asked it to."""
        return self.over and not self._made and self.error is None

    @property
    def result(self) -> T | None:
        """The made thing, or None."""
        return self._made[0] if self.made else None

    # For the work

    @property
    def stopping(self) -> bool:
        return self._halt.is_set()

    def report(self, done: int, total: int, what: str) -> None:
        """Report the progress to those who watch. The method is a `Progress`: pass it to functions that take one."""
        self.stage = Stage(done, total, what)
        self.check()

    def check(self) -> None:
        """End the work here if somebody called `stop`."""
        if self.stopping:
            raise _Cancelled

    def hold(self, lease: Lease[H]) -> Lease[H]:
        """Keep the lease until the made thing is closed or this task fails."""
        self._held.append(lease)
        return lease

    # For the store

    def close(self, used: float | None = None) -> None:
        """Close the made thing and release its leases, as last used at this time (default: now)."""
        made, self._made = self._made, []
        try:
            for thing in made:
                getattr(thing, "close", lambda: None)()
        except Exception:  # log the failure and go on: the leases below must be released
            logging.getLogger(__name__).exception("closing what came of %s failed", self.what)
        while self._held:
            self._held.pop().release(used)

    def _run(self) -> None:
        try:
            self.check()
            self._made.append(self._work())
        except _Cancelled:
            pass
        except BaseException as error:  # `value` raises it for those who wait
            self.error = error
        finally:
            if not self._made:
                self.close()
            self._over.set()
            self._on_over()


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

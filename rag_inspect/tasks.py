"""Run slow work in a thread: watch it, stop it, and close what it made. `store.py` shares what tasks make."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, Self, TypeVar

from rag_inspect.errors import RagInspectError
from rag_inspect.types import Progress


class Held(Protocol):
    """What a task uses for as long as the thing that it made exists, such as a lease."""

    def release(self, used: float | None = None) -> None:
        """Give it back, as last used at this time of `time.perf_counter` (default: now)."""
        ...


T = TypeVar("T")
H = TypeVar("H", bound=Held)


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
        self._held: list[Held] = []
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

    def hold(self, held: H) -> H:
        """Keep it until the made thing is closed or this task fails."""
        self._held.append(held)
        return held

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

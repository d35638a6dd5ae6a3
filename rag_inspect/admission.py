"""Admission: how many may do one thing at the same time or wait for it, in all and each. The next is refused at once."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Self

from rag_inspect.errors import InputError


class Place:
    """One admitted request, until `release` or the end of a `with` block."""

    def __init__(self, admission: Admission, who: str) -> None:
        self._admission, self._who = admission, who
        self._open = threading.Lock()  # acquired once, by the first release

    def release(self) -> None:
        if self._open.acquire(blocking=False):
            self._admission._give_back(self._who)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class Admission:
    """`most` places in all, `each` for one asker. `what` names what they do, in the plural. Safe to use from many threads.

    An asker without a name ("") is this process itself, such as the command line: only `most` holds for it.
    """

    def __init__(self, what: str, most: int, each: int) -> None:
        self.what, self.most, self.each = what, most, each
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the places that are taken."""
        return self._held.total()

    def take(self, who: str) -> Place:
        """Return a place for this asker. Raises InputError at once if there is none."""
        with self._lock:
            if who and self._held[who] >= self.each:
                raise InputError(
                    f"you already have {self.each} {self.what} running or waiting; wait for one to end, or stop it"
                )
            if len(self) >= self.most:
                raise InputError(
                    f"this machine already has {self.most} {self.what} running or waiting; try again later"
                )
            self._held[who] += 1
        return Place(self, who)

    def _give_back(self, who: str) -> None:
        with self._lock:
            self._held[who] -= 1
            if not self._held[who]:
                del self._held[who]

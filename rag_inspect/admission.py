"""Admission: how many may do one thing at the same time or wait for it, in all and each. The next is refused at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Self

from rag_inspect.errors import InputError


@dataclass(frozen=True)
class Asker:
    """Who asks: a name that tells visitors or tabs apart, and the network address that the request came from.

    Anybody can make up another name, but not another address; many visitors may share one address.
    """

    name: str = ""
    address: str = ""


OURSELVES = Asker()
"""This process itself, such as the command line: only the limit for all holds for it."""


class Place:
    """One admitted request, until `release` or the end of a `with` block."""

    def __init__(self, admission: Admission, who: Asker) -> None:
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
    """Places for `what` (in the plural): `most` in all, `each` for one name, `each_address` for one network address.

    `each_address` should be below `most`, so that nobody takes every place by making up names, and well above `each`:
    all visitors behind one proxy may have one address. Safe to use from many threads.
    """

    def __init__(self, what: str, *, most: int, each: int, each_address: int) -> None:
        self.what, self.most, self.each, self.each_address = what, most, each, each_address
        self._held: list[Asker] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the places that are taken."""
        return len(self._held)

    def take(self, who: Asker) -> Place:
        """Return a place for this asker. Raises InputError at once if there is none."""
        with self._lock:
            if who.name and sum(other.name == who.name for other in self._held) >= self.each:
                raise InputError(
                    f"you already have {self.each} {self.what} running or waiting; wait for one to end, or stop it"
                )
            if who.address and sum(other.address == who.address for other in self._held) >= self.each_address:
                raise InputError(
                    f"your network address already has {self.each_address} {self.what} running or waiting; wait for one to end"
                )
            if len(self) >= self.most:
                raise InputError(
                    f"this machine already has {self.most} {self.what} running or waiting; try again later"
                )
            self._held.append(who)
        return Place(self, who)

    def _give_back(self, who: Asker) -> None:
        with self._lock:
            self._held.remove(who)

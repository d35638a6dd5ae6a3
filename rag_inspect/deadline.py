"""A deadline for a call that has none of its own, such as a request whose answer comes a byte at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def call_in_time(call: Callable[[], T], seconds: float, place: str) -> T:
    """Return or raise what the call does; raise TimeoutError if that takes longer. The thread is left to end."""
    answers: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(call())
        except BaseException as error:  # raised below, for whoever waits
            errors.append(error)

    thread = threading.Thread(target=work, name=f"asking {place}", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"{place} did not answer within {seconds:g} seconds")
    return answers[0]

"""Run one evaluation at a time on a machine: a file lock gives each its turn."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rag_inspect.tasks import Stage


class Turn:
    """The lock that an evaluation must hold to run. The operating system frees it if the process dies.

    The holder writes its name into a second file, because Windows lets nobody read a locked file.
    """

    def __init__(self, home: Path, what: str, *, private: bool = False) -> None:
        """`private`: say nothing of what is evaluated, neither here nor to those who wait."""
        self.what, self._private = what, private
        self._words = home / "eval.turn.json"
        # Not thread_local: another thread may end the evaluation. No fallback to a soft lock: it would stay locked
        # after its process died.
        self._lock = FileLock(home / "eval.lock", thread_local=False, fallback_to_soft=False)

    def take(self) -> bool:
        """Try to take the lock; return True if it is ours, or if the file system has no locks."""
        try:
            self._words.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            return True
        if self._private:
            return True
        words = json.dumps({"what": self.what, "process": os.getpid(), "since": time.strftime("%H:%M")})
        # A full disk must not stop an evaluation; the others only do not see who holds the lock.
        with suppress(OSError):
            self._words.unlink(missing_ok=True)  # a process that died may have left it
            self._words.write_text(words, encoding="utf-8")
        return True

    @property
    def holder(self) -> str:
        """Describe the evaluation that holds the lock, unless that is private."""
        if self._private:
            return "another evaluation"
        try:
            held = json.loads(self._words.read_text(encoding="utf-8"))
            return f"{held['what']}, since {held['since']}, process {held['process']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another evaluation"

    def wait(self, stopped: Callable[[], bool], every: float = 0.3) -> Iterator[Stage]:
        """Yield stages that say who holds the lock, until it is ours or `stopped` returns True."""
        while not self.take() and not stopped():
            yield Stage(0, 0, f"queued: one evaluation runs at a time on this machine ({self.holder})")
            time.sleep(every)

    def free(self) -> None:
        """Release the lock if it is ours."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._words.unlink(missing_ok=True)
            self._lock.release()

"""One evaluation at a time on a machine: whose turn it is, as a lock on a file."""

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
    """The machine's one place for an evaluation; the system frees it when its process dies.

    Who has it stands in a file beside the lock: Windows lets nobody read a file that is locked.
    """

    def __init__(self, home: Path, what: str) -> None:
        self.what = what
        self._words = home / "eval.turn.json"
        # Not thread_local: an evaluation may be ended by another thread than began it. No soft lock either, where
        # the file system has no real ones: a process that dies would leave it for ever.
        self._lock = FileLock(home / "eval.lock", thread_local=False, fallback_to_soft=False)

    def take(self) -> bool:
        """True once it is ours; True as well where this file system has no locks, for then nobody can wait."""
        try:
            self._words.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            return True
        words = json.dumps({"what": self.what, "process": os.getpid(), "since": time.strftime("%H:%M")})
        with suppress(OSError):  # a full disk must not stop an evaluation; the others only know less
            self._words.unlink(missing_ok=True)  # of a process that died
            self._words.write_text(words, encoding="utf-8")
        return True

    @property
    def holder(self) -> str:
        """Who has it, in words."""
        try:
            held = json.loads(self._words.read_text(encoding="utf-8"))
            return f"{held['what']}, since {held['since']}, process {held['process']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another evaluation"

    def wait(self, stopped: Callable[[], bool], every: float = 0.3) -> Iterator[Stage]:
        """Stages that say who is before us, until it is our turn or we are told to stop."""
        while not self.take() and not stopped():
            yield Stage(0, 0, f"queued: one evaluation runs at a time on this machine ({self.holder})")
            time.sleep(every)

    def free(self) -> None:
        """Let the next have it, if it is ours."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._words.unlink(missing_ok=True)
            self._lock.release()

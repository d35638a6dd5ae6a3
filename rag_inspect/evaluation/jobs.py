"""Evaluations as jobs: a thread each, found again by id after a page reload, one at a time on a machine."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rag_inspect.evaluation import EvalProgress
from rag_inspect.loading import Stage

KEPT = 20  # jobs that are over and can still be asked for
Stopped = Callable[[], bool]


class Turn:
    """The machine's one place for an evaluation: a locked file, freed by the system when its process dies."""

    def __init__(self, home: Path, what: str) -> None:
        self.path, self.what = home / "eval.lock", what
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """True once it is ours; True as well where this file system has no locks, for then nobody can wait."""
        try:
            import fcntl

            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except (ImportError, OSError):
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except OSError:
            file.close()
            return True
        self._file = file
        words = json.dumps({"what": self.what, "process": os.getpid(), "since": time.strftime("%H:%M")})
        with suppress(OSError):  # a full disk must not stop an evaluation; the others only know less
            file.truncate(0)
            os.write(file.fileno(), words.encode())  # unbuffered: nothing is left for close() to fail on
        return True

    @property
    def holder(self) -> str:
        """Who has it, in words."""
        try:
            held = json.loads(self.path.read_text(encoding="utf-8"))
            return f"{held['what']}, since {held['since']}, process {held['process']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another evaluation"

    def wait(self, stopped: Stopped, every: float = 0.3) -> Iterator[Stage]:
        """Stages that say who is before us, until it is our turn or we are told to stop."""
        while not self.take() and not stopped():
            yield Stage(0, 0, f"queued: one evaluation runs at a time on this machine ({self.holder})")
            time.sleep(every)

    def free(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


class Job:
    """One evaluation in its own thread. Whoever watches may leave and come back: `moment` and `rows` stay.

    `settings`: corpus, embedder, top_k and top_n as the document of the Evaluation will have them; rerankers, split.
    """

    def __init__(
        self, make: Callable[[Stopped], Iterator[Any]], what: str, settings: Mapping[str, Any]
    ) -> None:
        self.job_id = secrets.token_hex(8)
        self.what, self.settings = what, settings
        self.moment: Stage | EvalProgress = Stage(0, 0, "starting")
        self.rows: list[Mapping[str, Any]] = []  # of every query that is done, as EvalProgress.finished
        self.result: Any = None  # the Evaluation, once it is there
        self.error: BaseException | None = None
        self._halt, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(make,), name=f"eval {what}", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    @property
    def stopped(self) -> bool:
        """True where it ended because someone asked it to."""
        return self.over and self.result is None and self.error is None

    def stop(self) -> None:
        """Ask it to end; it does after the batch at work, and what is scored stays in the cache."""
        self._halt.set()

    def watch(self, every: float = 0.5) -> Iterator[Stage | EvalProgress]:
        """The latest moment, at once and then every so many seconds until it is over; leaving does not stop it."""
        yield self.moment
        while not self._over.wait(every):
            yield self.moment

    def value(self) -> Any:
        """Wait for the Evaluation (None where it was stopped); raises what went wrong."""
        self._over.wait()
        if self.error:
            raise self.error
        return self.result

    def _run(self, make: Callable[[Stopped], Iterator[Any]]) -> None:
        try:
            for moment in make(self._halt.is_set):
                if isinstance(moment, EvalProgress):
                    self.rows.extend(moment.finished)
                if isinstance(moment, EvalProgress | Stage):
                    self.moment = moment
                else:
                    self.result = moment
        except BaseException as error:  # handed to whoever asks for the value
            self.error = error
        finally:
            self._over.set()


class Jobs:
    """The jobs of one workbench, by id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(
        self, make: Callable[[Stopped], Iterator[Any]], what: str, settings: Mapping[str, Any] | None = None
    ) -> Job:
        """A new job, at work at once (or waiting for the machine's turn); the oldest that are over are forgotten."""
        with self._lock:
            over = [job_id for job_id, job in self._jobs.items() if job.over]
            for job_id in over[: max(0, len(over) - KEPT + 1)]:
                del self._jobs[job_id]
            job = Job(make, what, settings or {})
            self._jobs[job.job_id] = job
            return job

    def get(self, job_id: str) -> Job | None:
        """The job of this id, None where there is none (any more)."""
        return self._jobs.get(job_id)

    @property
    def running(self) -> list[Job]:
        return [job for job in list(self._jobs.values()) if not job.over]

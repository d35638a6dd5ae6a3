"""Evaluations that run in the background; a page finds its job again by id after a reload."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rag_inspect.errors import RagInspectError
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.document import RankedQuery, RunSettings
from rag_inspect.options import EvalOptions
from rag_inspect.tasks import Stage, Task

KEPT = 20  # finished jobs that can still be found
Make = Callable[[Callable[[], bool]], Iterator[object]]
"""make(stopped) yields the moments of an evaluation; the last is the Evaluation, unless `stopped` returned True."""


@dataclass(frozen=True, kw_only=True)
class JobSettings(RunSettings):
    """The settings of a job, which its document will repeat. Empty `rerankers` means the default one."""

    rerankers: tuple[str, ...] = ()
    cutoffs: tuple[int, ...] = ()

    @classmethod
    def of(cls, options: EvalOptions) -> JobSettings:
        return cls(
            corpus=options.corpus,
            split=options.split,
            first_stages=tuple(options.first_stages),
            top_k=options.top_k,
            top_n=options.kept,
            rerankers=tuple(options.rerankers),
            cutoffs=options.depths,
        )


class Job(Task[Evaluation]):
    """One evaluation. It keeps `moment` and `rows`, so a page may close and come back."""

    def __init__(
        self, make: Make, what: str, settings: JobSettings, on_over: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(lambda job: job.follow(make(lambda: job.stopping)), what, on_over=on_over)
        self.job_id = secrets.token_hex(8)
        self.settings = settings
        self.moment: object = Stage(0, 0, "starting")
        self.rows: list[RankedQuery] = []  # of the finished queries

    def follow(self, moments: Iterator[object]) -> Evaluation:
        """Run to the end, keeping the latest moment and the finished rows; return the Evaluation."""
        for moment in moments:
            if isinstance(moment, Evaluation):
                return moment
            self.moment = moment
            self.stage = moment if isinstance(moment, Stage) else self.stage
            self.rows.extend(RankedQuery(**row) for row in getattr(moment, "finished", ()))
        self.check()
        raise RagInspectError(f"the evaluation of {self.what} ended without a result")


class Jobs:
    """The jobs of one workbench, by id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(
        self, make: Make, what: str, settings: JobSettings, on_over: Callable[[], None] = lambda: None
    ) -> Job:
        """Start a job, which may wait for its turn on this machine. Forgets the oldest finished jobs."""
        with self._lock:
            over = [job_id for job_id, job in self._jobs.items() if job.over]
            for job_id in over[: max(0, len(over) - KEPT + 1)]:
                del self._jobs[job_id]
            job = Job(make, what, settings, on_over)
            self._jobs[job.job_id] = job
        job.start()
        return job

    def get(self, job_id: str) -> Job | None:
        """Return the job with this id, or None if there is none or it is forgotten."""
        return self._jobs.get(job_id)

    @property
    def running(self) -> list[Job]:
        return [job for job in list(self._jobs.values()) if not job.over]

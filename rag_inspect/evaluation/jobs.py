"""Evaluations as tasks that can be found again by an id, after a page reload."""

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

KEPT = 20  # jobs that are over and can still be asked for
Make = Callable[[Callable[[], bool]], Iterator[object]]
"""make(stopped): moments of an evaluation, the last of them the Evaluation unless `stopped` said so."""


@dataclass(frozen=True, kw_only=True)
class JobSettings(RunSettings):
    """What a job was asked for; the Evaluation's document will have the same. No rerankers: the default one."""

    rerankers: tuple[str, ...] = ()
    cutoffs: tuple[int, ...] = ()

    @classmethod
    def of(cls, options: EvalOptions) -> JobSettings:
        return cls(
            corpus=options.corpus,
            split=options.split,
            embedder=options.embedder,
            top_k=options.top_k,
            top_n=options.kept,
            rerankers=tuple(options.rerankers),
            cutoffs=options.depths,
        )


class Job(Task[Evaluation]):
    """One evaluation. Whoever watches may leave and come back: `moment` and `rows` stay."""

    def __init__(self, make: Make, what: str, settings: JobSettings) -> None:
        super().__init__(lambda job: job.follow(make(lambda: job.stopping)), what)
        self.job_id = secrets.token_hex(8)
        self.settings = settings
        self.moment: object = Stage(0, 0, "starting")
        self.rows: list[RankedQuery] = []  # of every query that is done

    def follow(self, moments: Iterator[object]) -> Evaluation:
        """The work: each moment is the latest until the next one comes."""
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

    def start(self, make: Make, what: str, settings: JobSettings) -> Job:
        """A new job, at work at once (or waiting for the machine's turn); the oldest that are over are forgotten."""
        with self._lock:
            over = [job_id for job_id, job in self._jobs.items() if job.over]
            for job_id in over[: max(0, len(over) - KEPT + 1)]:
                del self._jobs[job_id]
            job = Job(make, what, settings)
            self._jobs[job.job_id] = job
        job.start()
        return job

    def get(self, job_id: str) -> Job | None:
        """The job of this id, None where there is none (any more)."""
        return self._jobs.get(job_id)

    @property
    def running(self) -> list[Job]:
        return [job for job in list(self._jobs.values()) if not job.over]

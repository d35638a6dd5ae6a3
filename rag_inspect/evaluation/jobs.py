"""Evaluations that run in the background; a page finds its job again by id after a reload."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rag_inspect.errors import RagInspectError
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.document import EvaluationDocument, RankedQuery, RunSettings
from rag_inspect.options import EvalOptions
from rag_inspect.tasks import Stage, Task

KEPT = 10  # jobs of one owner, more than may wait; the oldest finished ones beyond are forgotten
ALL_KEPT = 40  # jobs in all; beyond it, the owner with the most loses their oldest finished one
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
            gold_grade=options.gold_grade,
            first_stages=tuple(options.first_stages),
            top_k=options.top_k,
            top_n=options.kept,
            rerankers=tuple(options.rerankers),
            cutoffs=options.depths,
        )

    def list_left_out(self, found: EvaluationDocument) -> tuple[str, ...]:
        """List the models that were asked for by name and are not in the evaluation; its notes say why."""
        asked = (*self.first_stages, *self.rerankers)
        return tuple(key for key in asked if key not in (*found.first_stages, *found.rerankers))


class Job(Task[Evaluation]):
    """One evaluation. It keeps `moment` and `rows`, so a page may close and come back."""

    def __init__(
        self,
        make: Make,
        what: str,
        settings: JobSettings,
        *,
        owner: str = "",
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        """`owner` is `Visitor.owner`."""
        super().__init__(lambda job: job.follow(make(lambda: job.stopping)), what, on_over=on_over)
        self.job_id = secrets.token_hex(8)
        self.settings, self.owner = settings, owner
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

    def start(self, job: Job) -> Job:
        """Start a job, which may wait for its turn on this machine. Forgets finished jobs that are too many."""
        with self._lock:
            self._jobs[job.job_id] = job
            self._make_room()
        job.start()
        return job

    def _make_room(self) -> None:
        """Forget finished jobs beyond KEPT of one owner and ALL_KEPT in all; the owner with the most gives first."""
        counts = Counter(job.owner for job in self._jobs.values())
        finished: dict[str, list[str]] = {}
        for job_id, job in self._jobs.items():  # the oldest first
            if job.over:
                finished.setdefault(job.owner, []).append(job_id)
        while finished:
            owner = max(finished, key=counts.__getitem__)
            if counts[owner] <= KEPT and len(self._jobs) <= ALL_KEPT:
                break
            del self._jobs[finished[owner].pop(0)]
            counts[owner] -= 1
            if not finished[owner]:
                del finished[owner]

    def get(self, job_id: object) -> Job | None:
        """Return the job with this id, or None if there is none or it is forgotten.

        A browser may send any JSON as the id; what is no text is the id of no job.
        """
        return self._jobs.get(job_id) if isinstance(job_id, str) else None

    @property
    def running(self) -> list[Job]:
        return [job for job in list(self._jobs.values()) if not job.over]

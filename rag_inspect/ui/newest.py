"""Which job each browser tab started last."""

from __future__ import annotations

import gradio as gr

MOST_TABS = 1_000  # whose last job is remembered; the oldest are forgotten


class Newest:
    """The job that each browser tab started last: what is still on its way about an earlier one is not shown."""

    def __init__(self) -> None:
        self._started: dict[str | None, str] = {}

    def begin(self, request: gr.Request, job_id: str) -> None:
        """Note that this tab started the job."""
        while len(self._started) >= MOST_TABS:
            del self._started[next(iter(self._started))]
        self._started[request.session_hash] = job_id

    def of(self, request: gr.Request) -> str:
        """Return the job that this tab started last, "" if none."""
        return self._started.get(request.session_hash, "")

    def is_superseded(self, request: gr.Request, job_id: str) -> bool:
        """Return True if this tab has started another job since."""
        return self._started.get(request.session_hash, job_id) != job_id

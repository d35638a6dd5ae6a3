"""The past runs of one home: who may see them, and whose are saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rag_inspect.errors import InputError, RagInspectError
from rag_inspect.evaluation import runs
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.sessions import LOCAL, Sessions, Visitor


class Archive:
    """The runs in a folder. A visitor lists and opens those that `sessions` lets them see."""

    def __init__(self, folder: Path, sessions: Sessions) -> None:
        self.folder, self._sessions = folder, sessions

    def list(self, visitor: Visitor = LOCAL) -> list[dict[str, Any]]:
        """Return the summaries of the runs that this visitor may see, the newest first."""
        return [run for run in runs.list_runs(self.folder) if self._sessions.may_see(visitor, run["owner"])]

    def open(self, run_id: str, visitor: Visitor = LOCAL) -> Evaluation:
        """Return a saved run. Raises InputError if there is none that this visitor may see."""
        owners = {run["run_id"]: run["owner"] for run in runs.list_runs(self.folder)}
        if not self._sessions.may_see(visitor, owners.get(run_id, "")):
            raise InputError(f"no saved run {run_id[:40]!r}; see the list of past runs")
        return runs.load_run(self.folder, run_id)

    def save(self, outcome: Outcome, metrics: Sequence[str], visitor: Visitor) -> Evaluation:
        """Assess the outcome and save it. A run that nobody could open again is not saved (its run_id is "").

        A full disk costs the saving, not the result.
        """
        document, run_id = assess(outcome, metrics), runs.new_run_id(outcome.created)
        if not self._sessions.may_see(visitor, visitor.owner):
            return Evaluation(outcome, document, "")
        try:
            runs.save_run(self.folder, run_id, outcome, document, visitor.owner)
        except RagInspectError as error:
            note, run_id = f"This run was not saved: {error}.", ""
            document = replace(document, notes=(*document.notes, note))
        return Evaluation(outcome, document, run_id)

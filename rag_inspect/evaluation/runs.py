"""Save evaluations under home/runs, list them, load them and compare two."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rag_inspect.errors import InputError
from rag_inspect.evaluation.assessment import Evaluation, assess
from rag_inspect.evaluation.document import (
    ComparedRun,
    Comparison,
    EvaluationDocument,
    QueryResult,
    VerdictChange,
)
from rag_inspect.evaluation.fair import BLEND
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.replay import MAX_BYTES, from_replay
from rag_inspect.evaluation.replay_writer import to_replay
from rag_inspect.evaluation.systems import join_key, split_key
from rag_inspect.files import format_json, write_text
from rag_inspect.metrics import GOLD_GRADE
from rag_inspect.pipeline import name_verdict
from rag_inspect.significance import differences, group_by_text

_RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6,32}")
_SUMMARY_BYTES = 1 << 20
KEPT = 100  # runs of one owner; saving another deletes their oldest
ALL_KEPT = 2_000  # runs in all; beyond it, the owner with the most runs loses their oldest


def new_run_id(created: str) -> str:
    """Make an id that nobody can guess from an ISO time in UTC: `20261123-190501-3fa9c15be0d2a974`."""
    return f"{re.sub('[^0-9]', '', created)[:8]}-{re.sub('[^0-9]', '', created)[8:14]}-{secrets.token_hex(8)}"


def save_run(
    folder: Path, run_id: str, outcome: Outcome, document: EvaluationDocument, owner: str = ""
) -> Path:
    """Save a run as one JSON file, with its summary on the first line. `owner` is `Visitor.owner`.

    Raises RagInspectError if the file cannot be written or its replay cannot be read back.
    """
    replay = format_json(to_replay(replace(outcome, passages={})))
    from_replay(json.loads(replay), "the run")
    summary = {
        "run_id": run_id, "owner": owner, "created": outcome.created, "corpus": outcome.corpus, "split": outcome.split,
        "queries": document.queries, "top_k": outcome.top_k, "top_n": outcome.top_n, "gold_grade": outcome.gold_grade,
        "systems": [
            {
                "key": s.key, "kind": s.kind, "first_stage": s.system.first_stage.key, "reranker": s.reranker, "revision": s.system.model.revision,
                "metrics": {name: m.value for name, m in s.metrics.items()},
            }
            for s in document.systems
        ],
        "advice": document.advice[0].text if document.advice else "",
    }  # fmt: skip
    text = f'{{"summary": {format_json(summary).strip()},\n"replay": {replay}}}\n'
    path = write_text(folder / f"{run_id}.json", text)
    _make_room(folder)
    return path


def _make_room(folder: Path) -> None:
    """Delete what is beyond KEPT runs of one owner and ALL_KEPT runs in all; a file that says no owner counts as nobody's."""
    found = {run["run_id"]: run["owner"] for run in list_runs(folder)}
    shelves: dict[str, list[Path]] = {}
    for path in _list_files(folder):  # the newest first
        shelves.setdefault(found.get(path.stem, ""), []).append(path)
    for shelf in shelves.values():
        while len(shelf) > KEPT:
            shelf.pop().unlink(missing_ok=True)
    for _ in range(sum(map(len, shelves.values())) - ALL_KEPT):
        max(shelves.values(), key=len).pop().unlink(missing_ok=True)


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """List the summaries of the saved runs, newest first; files that are not runs are skipped."""
    found = []
    for path in _list_files(folder):
        try:
            with path.open("rb") as file:
                line = file.readline(_SUMMARY_BYTES).decode("utf-8").rstrip().removesuffix(",")
            found.append(_read_summary(json.loads(line + "}")["summary"]) | {"run_id": path.stem})
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _read_summary(read: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a summary has what the list shows. Raises KeyError, TypeError or ValueError."""
    whole = {name: int(read[name]) for name in ("queries", "top_k", "top_n")}
    words = {name: str(read[name]) for name in ("created", "corpus", "split", "advice")}
    systems = _read_systems([{**system, "key": str(system["key"])} for system in read["systems"]])
    grade = int(read.get("gold_grade", GOLD_GRADE))
    return {
        **read,
        **whole,
        **words,
        "gold_grade": grade,
        "systems": systems,
        "owner": str(read.get("owner", "")),
    }


def _read_systems(systems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what each system consists of; until November 26, 2026, a reranker's own key stood for its system."""
    first = systems[0]["key"] if systems else ""
    for system in systems:
        if "first_stage" not in system and system["key"] != first:
            system["key"] = join_key(first, system["key"])
        if system.setdefault("kind", _name_kind(system["key"])) != "fused":
            system["first_stage"], system["reranker"] = split_key(system["key"])
    return systems


def _name_kind(key: str) -> str:
    """Return the kind of a system by its key, for summaries that do not say it."""
    fused = key == BLEND or key.startswith("fusion:")
    return "fused" if fused else "reranked" if split_key(key)[1] else "first_stage"


def _list_files(folder: Path) -> list[Path]:
    """List the files of runs, newest first."""
    return sorted((path for path in folder.glob("*.json") if _RUN_ID.fullmatch(path.stem)), reverse=True)


def load_run(folder: Path, run_id: str) -> Evaluation:
    """Load a saved run and compute its document again. Raises InputError if there is no such run."""
    path = folder / f"{run_id}.json"
    if not _RUN_ID.fullmatch(run_id) or not path.is_file():
        raise InputError(f"no saved run {run_id[:40]!r}; see the list of past runs")
    try:
        with path.open("rb") as file:
            replay = json.loads(file.read(MAX_BYTES))["replay"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path.name} is not a saved run ({str(error)[:80]}); delete it from {folder.name}/ and evaluate again"
        ) from error
    outcome = from_replay(replay, path.name)
    return Evaluation(outcome, assess(outcome), run_id)


def compare_runs(
    before: EvaluationDocument, after: EvaluationDocument, system_before: str = "", system_after: str = ""
) -> Comparison:
    """Compare two runs on their shared queries: the difference of each metric, and the verdicts that changed.

    A query is shared if its id, text and gold are the same. Both verdicts use the later run's top_n, so a verdict
    changes only if a rank did. The systems default to each run's first reranked one. Raises InputError if the runs share
    no query, or if one does not have its system.
    """
    keys = _system_key(before, system_before), _system_key(after, system_after)
    known = {_identity(row): row for row in before.per_query}
    pairs = [(known[_identity(row)], row) for row in after.per_query if _identity(row) in known]
    if not pairs:
        grades = f"; they count gold from grade {before.gold_grade} and from grade {after.gold_grade}"
        why = grades if before.gold_grade != after.gold_grade else ""
        raise InputError(
            f"the runs share no query ({before.corpus} and {after.corpus}{why}); compare runs of one corpus and split"
        )
    names = [name for name in after.tooltips if name in before.tooltips]
    first, second = (
        np.array([[pair[side].metrics[keys[side]][name] for name in names] for pair in pairs])
        for side in (0, 1)
    )
    found = differences(first, second, group_by_text([new.query for _, new in pairs]))
    rows = (_rank_change(old, new, keys, after.top_n) for old, new in pairs)
    return Comparison(
        runs=(_side(before, keys[0], names, first), _side(after, keys[1], names, second)),
        queries=len(pairs),
        only_in_one=len(before.per_query) + len(after.per_query) - 2 * len(pairs),
        other_gold=_count_other_gold(before, after),
        metrics=dict(zip(names, found, strict=True)),
        changed=tuple(row for row in rows if row.verdict_before != row.verdict_after),
    )


def _count_other_gold(before: EvaluationDocument, after: EvaluationDocument) -> int:
    """Count the queries that both runs have, by id and text, with other gold."""
    gold = {(row.query_id, row.query): row.gold for row in before.per_query}
    return sum(gold.get((row.query_id, row.query), row.gold) != row.gold for row in after.per_query)


def list_shared_systems(before: EvaluationDocument, after: EvaluationDocument) -> list[str]:
    """List the keys of the reranked systems that both runs have, in the order of the later run."""
    known = {system.key for system in before.reranked}
    return [system.key for system in after.reranked if system.key in known]


def _system_key(document: EvaluationDocument, key: str) -> str:
    """Return the key, or that of the first reranked system if it is "". Raises InputError if the run has no such system."""
    if not key:
        return document.reranked[0].key
    if key not in {system.key for system in document.systems}:
        raise InputError(f"the run of {document.created} has no system {key[:40]!r}")
    return key


def _side(document: EvaluationDocument, key: str, names: Sequence[str], values: np.ndarray) -> ComparedRun:
    return ComparedRun(
        system=key,
        corpus=document.corpus,
        split=document.split,
        top_k=document.top_k,
        top_n=document.top_n,
        gold_grade=document.gold_grade,
        created=document.created,
        latency=document.find(key).latency,
        metrics=dict(zip(names, values.mean(axis=0).tolist(), strict=True)),
    )


def _rank_change(old: QueryResult, new: QueryResult, keys: Sequence[str], top_n: int) -> VerdictChange:
    ranks = [row.ranks[key] for row, key in zip((old, new), keys, strict=True)]
    verdicts = [
        name_verdict(row.rank_before(key), rank, top_n)
        for row, key, rank in zip((old, new), keys, ranks, strict=True)
    ]
    return VerdictChange(
        query_id=new.query_id,
        query=new.query,
        verdict_before=verdicts[0],
        verdict_after=verdicts[1],
        rank_before=ranks[0],
        rank_after=ranks[1],
    )


def _identity(row: QueryResult) -> tuple[str, str, tuple[str, ...]]:
    return row.query_id, row.query, row.gold

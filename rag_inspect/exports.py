"""Write the files of an evaluation: TREC run and qrels, per_query.csv, metrics.json, report.html, replay.json."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from rag_inspect.errors import RagInspectError
from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.document import EvaluationDocument
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.replay import read_replay
from rag_inspect.evaluation.replay_writer import to_replay
from rag_inspect.evaluation.systems import name_file
from rag_inspect.files import check_folder, format_json, is_draft, sweep_drafts, write_files
from rag_inspect.rerankers import RERANKERS
from rag_inspect.words import format_count

__all__ = [
    "check_out",
    "export_files",
    "metrics_json",
    "name_scores",
    "per_query_csv",
    "read_replay",
    "to_replay",
    "trec_qrels",
    "trec_run",
    "write_all",
]

Report = Callable[[EvaluationDocument, Mapping[str, str]], str]
# A spreadsheet would run a cell that starts with one; some take the full-width forms too.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\n")
_SPACE = re.compile(r"\s")


def trec_run(outcome: Outcome, key: str) -> Iterator[str]:
    """Yield lines `query Q0 passage rank score system`, the rank from 1.

    trec_eval ignores the rank, reads scores in single precision and orders ties by descending passage id. So we lower
    each tied score by the smallest possible step: then trec_eval sees our order. White space in an id becomes %xx.
    """
    queries, passages = _name_queries(outcome), _name_passages(outcome)
    for query_id, ranking in outcome.run(key):
        last = np.float32(np.inf)
        for hit in ranking:
            score = np.float32(hit.score)
            last = score if score < last else np.nextafter(last, np.float32(-np.inf))
            passage = passages[hit.passage_id]
            yield f"{queries[query_id]} Q0 {passage} {hit.rank} {last:.9g} {_escape_space(key)}\n"


def trec_qrels(outcome: Outcome) -> Iterator[str]:
    """Yield lines `query 0 passage grade` of the evaluated queries."""
    queries, passages = _name_queries(outcome), _name_passages(outcome)
    for query in outcome.queries:
        for passage_id, grade in outcome.qrels[query.query_id].items():
            yield f"{queries[query.query_id]} 0 {passages[passage_id]} {grade}\n"


def _name_queries(outcome: Outcome) -> dict[str, str]:
    return name_ids(query.query_id for query in outcome.queries)


def _name_passages(outcome: Outcome) -> dict[str, str]:
    judged = (passage_id for query in outcome.queries for passage_id in outcome.qrels[query.query_id])
    return name_ids(chain(outcome.passage_ids, judged))


def name_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return what each id is called in a TREC file: itself, unless it has white space in it.

    White space becomes %xx. Where another id is called that, % is added at the end until the name is free.
    """
    every = dict.fromkeys(ids)
    taken = {each for each in every if _escape_space(each) == each}
    names = {}
    for each in every:
        name = each if each in taken else _escape_space(each)
        while name != each and name in taken:
            name += "%"
        taken.add(name)
        names[each] = name
    return names


def _escape_space(text: str) -> str:
    return _SPACE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text) or "%00"


def per_query_csv(document: EvaluationDocument) -> str:
    """Write one row per query: its gold, the rank of its best gold in each system, verdicts and metrics.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front; line ends in a cell become a quoted \\n.
    """
    places = [
        (what, system.key)
        for system in document.systems
        for what in (("rank", "verdict") if system.kind == "reranked" else ("rank",))
    ]
    metrics = [(s.key, name) for s in document.systems for name in s.metrics]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    named = (f"{what} {key}" for what, key in places)
    writer.writerow(["query_id", "query", "gold", *named, *(f"{name} {key}" for key, name in metrics)])
    for row in document.per_query:
        cells: list[Any] = [row.query_id, row.query, " ".join(row.gold)]
        cells += [row.ranks[key] or "" if what == "rank" else row.verdicts[key] for what, key in places]
        writer.writerow(
            [_escape_formula(cell) for cell in cells] + [row.metrics[key][name] for key, name in metrics]
        )
    return out.getvalue()


def _escape_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{value}" if value.startswith(_FORMULA) else value


def metrics_json(evaluation: Evaluation) -> str:
    """Write the document without its rows, for a dashboard or a diff."""
    return format_json(
        {name: part for name, part in evaluation.to_json().items() if name != "per_query"}, indent=1
    )


def name_scores(document: EvaluationDocument) -> dict[str, str]:
    """Return the name of the reranker's score, by system. A saved run may have a model that this version does not know."""
    names = {}
    for result in document.reranked:
        model = result.system.model
        spec = RERANKERS.get(model.key)
        known = spec is not None and spec.model == model.model
        names[result.key] = spec.score_name if spec and known else f"{model.key} score"
    return names


FILES: Mapping[str, Callable[[Evaluation, Report], str]] = {
    "qrels.trec": lambda evaluation, report: "".join(trec_qrels(evaluation.outcome)),
    "per_query.csv": lambda evaluation, report: per_query_csv(evaluation.document),
    "metrics.json": lambda evaluation, report: metrics_json(evaluation),
    "report.html": lambda evaluation, report: report(evaluation.document, name_scores(evaluation.document)),
    "replay.json": lambda evaluation, report: format_json(to_replay(evaluation.outcome)),
}
"""What is written besides the runs, by the name of the file."""


def export_files(evaluation: Evaluation, report: Report) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every file; `report` renders the HTML (views.report.report_html)."""
    for system in evaluation.outcome.systems:
        yield _name_run(system.key), "".join(trec_run(evaluation.outcome, system.key))
    for name, write in FILES.items():
        yield name, write(evaluation, report)


def name_files(systems: Iterable[str]) -> list[str]:
    """Return the names of the files that `export_files` yields for these systems."""
    return [*map(_name_run, systems), *FILES]


def _name_run(system: str) -> str:
    return f"run.{name_file(system)}.trec"


def check_out(folder: Path, systems: Iterable[str], force: bool = False) -> None:
    """Check, before the work, that the files of these systems can be written to this folder.

    Raises RagInspectError if they cannot, and, unless `force`, if the folder holds anything that they do not replace.
    """
    check_folder(folder)
    sweep_drafts(folder)
    ours = set(name_files(systems))
    there = (path.name for path in folder.iterdir()) if folder.exists() else ()
    others = sorted(name for name in there if name not in ours and not is_draft(name))
    if others and not force:
        more = f" and {format_count(len(others) - 1, 'more file', 'more files')}" if len(others) > 1 else ""
        raise RagInspectError(
            f"{folder} holds {others[0][:80]}{more}, which this evaluation does not replace; "
            "choose another folder, or add --force to write beside it"
        )


def write_all(folder: Path, evaluation: Evaluation, report: Report) -> list[Path]:
    """Write all files into the folder, or none of them; they replace those of an earlier run. Raises RagInspectError."""
    return write_files(folder, export_files(evaluation, report))

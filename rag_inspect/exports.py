"""What an evaluation leaves behind: TREC run and qrels, per_query.csv, metrics.json, report.html, replay.json."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rag_inspect.evaluation.assessment import Evaluation
from rag_inspect.evaluation.document import EvaluationDocument
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.replay import read_replay, to_replay
from rag_inspect.files import write_text
from rag_inspect.rerankers import RERANKERS

__all__ = [
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
_FORMULA = ("=", "+", "-", "@", "\t", "\n")  # what a spreadsheet would run
_SPACE = re.compile(r"[\s%]")


def trec_run(outcome: Outcome, key: str) -> Iterator[str]:
    """Lines `query Q0 passage rank score system`, the rank from 1.

    trec_eval ignores the rank, keeps a score in single precision and orders ties by falling passage id; ties are
    therefore parted by the least step there is, so that it sees our order. White space in an id becomes %xx.
    """
    for query_id, ranking in outcome.run(outcome.reranker_of(key)):
        last = np.float32(np.inf)
        for hit in ranking:
            score = np.float32(hit.score)
            last = score if score < last else np.nextafter(last, np.float32(-np.inf))
            yield f"{_token(query_id)} Q0 {_token(hit.passage_id)} {hit.rank} {last:.9g} {_token(key)}\n"


def trec_qrels(outcome: Outcome) -> Iterator[str]:
    """Lines `query 0 passage grade`, of the queries that were evaluated."""
    for query in outcome.queries:
        for passage_id, grade in outcome.qrels[query.query_id].items():
            yield f"{_token(query.query_id)} 0 {_token(passage_id)} {grade}\n"


def _token(text: str) -> str:
    return _SPACE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text) or "%00"


def per_query_csv(document: EvaluationDocument) -> str:
    """One row a query: its gold, the best gold's rank under each system, verdicts and metrics.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front; line ends in a cell become \\n, which is quoted.
    """
    rerankers = [system.key for system in document.rerankers]
    metrics = [(s.key, name) for s in document.systems for name in s.metrics]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ranks = [f"{what} {key}" for key in rerankers for what in ("rank", "verdict")]
    writer.writerow(
        ["query_id", "query", "gold", "rank first stage", *ranks, *(f"{name} {key}" for key, name in metrics)]
    )
    for row in document.per_query:
        cells = [row.query_id, row.query, " ".join(row.gold), row.rank_before or ""]
        for key in rerankers:
            cells += [row.ranks[key] or "", row.verdicts[key]]
        writer.writerow([_cell(cell) for cell in cells] + [row.metrics[key][name] for key, name in metrics])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{value}" if value.startswith(_FORMULA) else value


def metrics_json(evaluation: Evaluation) -> str:
    """The document without the rows, for a dashboard or a diff."""
    return as_json(
        {name: part for name, part in evaluation.to_json().items() if name != "per_query"}, indent=1
    )


def as_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: a number that is not finite is an error here, not in whoever reads it."""
    return (
        json.dumps(
            value,
            ensure_ascii=False,
            indent=indent,
            allow_nan=False,
            separators=None if indent else (",", ":"),
        )
        + "\n"
    )


def name_scores(document: EvaluationDocument) -> dict[str, str]:
    """What each reranker's number is called; a run names a model by key and name, and may be of one that is not here."""
    names = {}
    for system in document.rerankers:
        spec = RERANKERS.get(system.key)
        known = spec is not None and spec.model == system.system.model
        names[system.key] = spec.score_name if spec and known else f"{system.key} score"
    return names


def export_files(evaluation: Evaluation, report: Report) -> Iterator[tuple[str, str]]:
    """(name, text) of every file, made one after the other; `report` renders the HTML (views.report.report_html)."""
    outcome, document = evaluation.outcome, evaluation.document
    for system in outcome.systems:
        yield f"run.{system.key}.trec", "".join(trec_run(outcome, system.key))
    yield "qrels.trec", "".join(trec_qrels(outcome))
    yield "per_query.csv", per_query_csv(document)
    yield "metrics.json", metrics_json(evaluation)
    yield "report.html", report(document, name_scores(document))
    yield "replay.json", as_json(to_replay(outcome))


def write_all(folder: Path, evaluation: Evaluation, report: Report) -> list[Path]:
    """All files into the folder, made if need be; what an earlier run left there is replaced file by file."""
    return [write_text(folder / name, text) for name, text in export_files(evaluation, report)]

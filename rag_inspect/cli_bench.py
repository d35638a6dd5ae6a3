"""The command `bench`: what each reranker costs on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rag_inspect.options import check_model, split_names
from rag_inspect.rerankers import RERANKERS
from rag_inspect.tasks import Stage
from rag_inspect.terminal import add_json, print_json, print_lines, print_table, progress
from rag_inspect.usage import check_usage
from rag_inspect.workbench import Workbench


def add_commands(commands: Any) -> None:
    """Add it to argparse's subparsers."""
    command = commands.add_parser(
        "bench", help="measure each reranker's latency on this machine at each depth"
    )
    command.add_argument("--reranker", metavar="R[,R...]", help="rerankers to measure (default: all on disk)")
    add_json(command)
    command.set_run(run_bench)


def _read_rerankers(options: argparse.Namespace) -> tuple[str, ...]:
    names = split_names(options.reranker)
    for name in names:
        check_model("reranker", name, RERANKERS)
    return names


def run_bench(bench: Workbench, options: argparse.Namespace) -> None:
    """Measure the rerankers and print their latency. Raises RagInspectError."""
    from rag_inspect.evaluation.cost import measure

    chosen = check_usage(options, _read_rerankers)
    document: dict[str, Any] = {}
    with progress() as show:
        for moment in measure(
            bench.corpus(bench.default_corpus),
            bench.models(),
            chosen,
            open_retriever=bench.retriever,
            open_reranker=bench.reranker,
            device=bench.settings.device,
        ):
            if isinstance(moment, Stage):
                show(str(moment), moment.done, moment.total)
            else:
                document = moment
    if options.json:
        print_json(document)
        return
    first, machine = document["first_stage"], document["machine"]
    rows = [{"model": first["key"], "depth": "", **_format_timing(first)}]
    rows += [
        {"model": row["key"], "depth": str(at["depth"]), **_format_timing(at)}
        for row in document["rerankers"]
        for at in row["depths"]
    ]
    title = f"{machine['device']}, {machine['processors']} processors, {document['corpus']}"
    print_table(title, list(rows[0]), rows)
    print_lines(*(f"{row['key']} not measured: {row['reason']}" for row in document["left_out"]))


def _format_timing(at: Mapping[str, Any]) -> dict[str, str]:
    pace = f"{at['pairs_per_second']:,.1f}" if "pairs_per_second" in at else ""
    return {
        "p50 ms": f"{at['p50_ms']:,.1f}",
        "p95 ms": "-" if at["p95_ms"] is None else f"{at['p95_ms']:,.1f}",
        "pairs/s": pace,
        "runs": str(at["runs"]),
    }

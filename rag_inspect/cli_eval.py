"""The command `eval`: its options, what it prints, and the limits that fail a build."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_inspect.errors import InputError, RagInspectError
from rag_inspect.metrics import Metric, parse, parse_cutoffs
from rag_inspect.options import (
    CUTOFFS,
    FIRST_STAGE,
    GOAL,
    GOALS,
    MARGIN,
    SPLIT,
    Aim,
    EvalOptions,
    split_names,
)
from rag_inspect.terminal import add_json, print_error, print_json, print_lines, print_table, progress
from rag_inspect.usage import add_depths, add_gold_grade, as_argparse_type, check_usage
from rag_inspect.words import format_count
from rag_inspect.workbench import Workbench

if TYPE_CHECKING:
    from rag_inspect.evaluation.document import EvaluationDocument


def add_commands(commands: Any) -> None:
    """Add it to argparse's subparsers."""
    command = commands.add_parser(
        "eval", help="run an eval set through both stages: metrics, intervals, verdicts, advice"
    )
    command.add_argument(
        "--corpus", required=True, metavar="NAME|FOLDER", help="a corpus with qrels, by name or BEIR folder"
    )
    command.add_argument(
        "--embedder", "--first-stage", dest="first_stage", metavar="F[,F...]",
        help=f"one or more, comma-separated (default: {FIRST_STAGE})",
    )  # fmt: skip
    command.add_argument(
        "--reranker",
        metavar="R[,R...]",
        help="one or more, comma-separated (default: base if on disk, else mini)",
    )
    add_depths(command)
    command.add_argument(
        "--cutoffs",
        type=as_argparse_type(parse_cutoffs),
        default=CUTOFFS,
        help=f"the k of each metric (default: {','.join(map(str, CUTOFFS))})",
    )
    command.add_argument(
        "--split", default=SPLIT, help=f"split to evaluate: qrels/<split>.tsv (default: {SPLIT})"
    )
    add_gold_grade(command)
    _add_aim(command)
    _add_outputs(command)
    add_json(command)
    command.set_run(run_eval)


def _add_aim(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--goal", choices=GOALS, default=GOAL,
        help=f"who gets the top n: a reader of the first answer (MRR), or a model (recall) (default: {GOAL})",
    )  # fmt: skip
    command.add_argument(
        "--margin", type=float, default=MARGIN,
        help=f"a smaller difference does not matter (default: {MARGIN:g})",
    )  # fmt: skip
    command.add_argument(
        "--budget-ms", type=float, metavar="N", help="the most that a query may take (default: no limit)"
    )


def _add_outputs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=as_argparse_type(_parse_folder),
        metavar="FOLDER",
        help="write TREC runs, CSV, JSON, report.html and replay.json here",
    )
    command.add_argument(
        "--force", action="store_true", help="write to --out even if the folder holds other files"
    )
    command.add_argument(
        "--fail-under", type=as_argparse_type(_parse_limit), action="append", default=[], metavar="METRIC=VALUE",
        help='exit with 1 if a reranked system scores below this, such as "mrr@5=0.8"; may be repeated',
    )  # fmt: skip


def _parse_folder(text: str) -> Path:
    if not text.strip():
        raise InputError("the folder's name is empty; is a variable unset?")
    return Path(text)


def _parse_limit(text: str) -> tuple[Metric, float]:
    name, _, value = text.partition("=")
    metric = parse(name)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise InputError(
            f'{text[:60]!r} is not a limit; expected METRIC=VALUE with a value from 0 to 1, such as "mrr@5=0.8"'
        )
    return metric, number


def _read_options(options: argparse.Namespace) -> EvalOptions:
    return EvalOptions(
        corpus=options.corpus,
        first_stages=split_names(options.first_stage, "first stage"),
        rerankers=split_names(options.reranker),
        top_k=options.top_k,
        top_n=options.top_n,
        cutoffs=options.cutoffs,
        split=options.split,
        gold_grade=options.gold_grade,
        metrics=[str(metric) for metric, _ in options.fail_under],
        aim=Aim(goal=options.goal, margin=options.margin, budget_ms=options.budget_ms),
        keep_identical_ids=options.keep_identical_ids,
    )


def run_eval(bench: Workbench, options: argparse.Namespace) -> None:
    """Evaluate, write the files, print, and check the limits. Raises RagInspectError."""
    from rag_inspect.evaluation import EvalProgress
    from rag_inspect.evaluation.assessment import Evaluation

    asked = check_usage(options, _read_options)
    if options.out:
        from rag_inspect.evaluation.systems import list_keys
        from rag_inspect.exports import check_out

        systems = list_keys(asked.first_stages, asked.rerankers or [bench.default_reranker])
        check_out(options.out, systems, options.force)
    end: Evaluation | None = None
    moments = bench.evaluate(asked)
    try:
        with progress() as show:
            for moment in moments:
                if isinstance(moment, Evaluation):
                    end = moment
                elif isinstance(moment, EvalProgress):
                    show(str(moment), moment.pairs_done, moment.pairs)
                else:
                    show(str(moment), moment.done, moment.total)
    except KeyboardInterrupt:
        kept = bench.score_cache.trouble or "scores so far are kept; run the same command to continue"
        raise KeyboardInterrupt(f"stopped; {kept}") from None
    assert end is not None
    if options.out:  # before printing, which fails if the reader of a pipe has left
        from rag_inspect.exports import write_all
        from rag_inspect.views.report import report_html

        written = write_all(options.out, end, report_html)
        print_error(f"{format_count(len(written), 'file', 'files')} in {options.out}")
    try:
        if options.json:
            print_json(end.to_json())
        else:
            _print_evaluation(end.document)
    finally:
        _check_end(end.document, asked, options.fail_under)


def _check_end(
    document: EvaluationDocument, asked: EvalOptions, limits: Sequence[tuple[Metric, float]]
) -> None:
    """Raise RagInspectError if a model that was asked for was left out, or a reranked system is below a limit."""
    from rag_inspect.evaluation.jobs import JobSettings

    faults = [_explain_left_out(document, key) for key in JobSettings.of(asked).list_left_out(document)]
    if faults + (below := _list_below(document, limits)):
        raise RagInspectError("; ".join(faults + below))


def _explain_left_out(document: EvaluationDocument, key: str) -> str:
    start = f"{key} was left out"
    return next((note.rstrip(".") for note in document.notes if note.startswith(f"{start}:")), start)


def _list_below(document: EvaluationDocument, limits: Sequence[tuple[Metric, float]]) -> list[str]:
    """Say of which reranked systems a metric is below its limit, in one part of a sentence; [] if of none."""
    below = [
        f"{metric.label} of {system.key} is {system.metrics[str(metric)].value:.4f}, below {least:g}"
        for metric, least in limits
        for system in document.reranked
        if system.metrics[str(metric)].value
        < least - 1e-9  # a mean equal to the limit is not below it, whatever the rounding
    ]
    return [f"{'; '.join(below)} (--fail-under, {document.corpus}, n={document.queries})"] if below else []


def _print_evaluation(document: EvaluationDocument) -> None:
    from rag_inspect.evaluation.systems import split_key
    from rag_inspect.metrics import HEADLINE
    from rag_inspect.views.formats import format_latency
    from rag_inspect.views.systems import describe_gold

    title = f"{document.corpus} ({document.split}), {format_count(document.queries)}, top {document.top_k}{describe_gold(document)}"
    rows = []
    for system in document.systems:
        row = {"system": system.key}
        row |= {
            _name_column(name, document.top_k): _format_interval(
                system.metrics[name].value, system.metrics[name].ci95, ""
            )
            for name in HEADLINE
        }
        change = system.versus_baseline.get(document.primary)
        row[f"Δ {parse(document.primary).label}"] = (
            _format_interval(change.delta, change.ci95, "+") if change else ""
        )
        row["splits"] = "" if system.split_wins is None else f"{system.split_wins}/{document.splits}"
        row["W/T/L"] = f"{change.wins}/{change.ties}/{change.losses}" if change else ""
        row["p50/p95 ms (n)"] = format_latency(system.latency).replace("–", "-")
        rows.append(row)
    columns = [name for name in rows[0] if name != "splits" or document.splits]
    print_table(title, columns, rows)
    decision, (_, *advice) = document.decision, document.advice
    words = (decision.reason, decision.counted, decision.depth_kept, decision.spent)
    lines = [*(f"→ {line}" for line in words if line), *(f"→ {line.text}" for line in advice)]
    reranked = {system.key for system in document.reranked}
    for bar in (bar for bar in document.ceiling_bars if bar.system in reranked):
        parts = f"achieved {bar.achieved:.3f}, recoverable {bar.recoverable:.3f}, unreachable {bar.unreachable:.3f}"
        more = f", does not fit {bar.does_not_fit:.3f}" if bar.does_not_fit else ""
        lines.append(f"{parse(bar.metric).label} with {bar.system}: {parts}{more}")
    found = Counter(row.verdicts[decision.system] for row in document.per_query)
    counts = ", ".join(f"{name} {found[name]:,}" for name in document.verdicts)
    first_stage, _ = split_key(decision.system)
    lines.append(f"verdicts of {decision.system}, against {first_stage}: {counts}")
    print_lines(*lines, *document.notes)


def _name_column(metric: str, top_k: int) -> str:
    """`MRR@5`; `nDCG@10 of 5` if there are only 5 candidates to look at."""
    label = parse(metric).label
    return label if parse(metric).cutoff <= top_k else f"{label} of {top_k}"


def _format_interval(value: float, bounds: Sequence[float], sign: str) -> str:
    low, high = (f"{bound:{sign}.2f}".replace("0.", ".") for bound in bounds)
    return f"{value:{sign}.3f} [{low}, {high}]"

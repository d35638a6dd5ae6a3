"""The command `corpora`: the list of the corpora, and the linter."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rag_inspect.corpora.lint import lint_named
from rag_inspect.errors import CorpusError
from rag_inspect.terminal import add_json, print_json, print_table
from rag_inspect.types import Corpus, Qrels
from rag_inspect.words import format_count
from rag_inspect.workbench import Workbench


def add_command(commands: Any) -> None:
    """Add it to argparse's subparsers."""
    command = commands.add_parser("corpora", help="list the corpora, or check them with `lint`")
    command.add_argument("action", nargs="?", metavar="lint", help="check instead of list")
    command.add_argument(
        "names", nargs="*", metavar="NAME|FOLDER", help="corpora to list or check (default: all)"
    )
    add_json(command)
    command.set_run(run_corpora)


def run_corpora(bench: Workbench, options: argparse.Namespace) -> None:
    """List corpora, or lint them. Raises CorpusError, after printing, for those that cannot be read."""
    if options.action == "lint":
        _lint(bench, options)
        return
    rows, broken = [], []
    asked = [options.action, *options.names] if options.action else list(bench.corpora())
    for name in asked:
        try:
            corpus = bench.corpus(name)
        except CorpusError as error:
            broken.append(error)
            continue
        rows.append(
            {
                "name": name,
                "path": str(corpus.path) if corpus.path else None,
                "description": corpus.card.description,
                "language": list(corpus.card.language),
                "licence": corpus.card.licence,
                "passages": len(corpus.passages),
                "queries": len(corpus.queries),
                "judged_queries": _count_judged(corpus, corpus.qrels),
                "splits": {
                    split: _count_judged(corpus, corpus.splits[split])
                    for split in corpus.splits
                    if split not in corpus.broken_splits
                },
            }
        )
    if options.json:
        print_json(rows)
    elif rows or not broken:
        columns = ["name", "language", "passages", "judged_queries", "licence", "description"]
        print_table("Corpora", columns, [row | {"judged_queries": _format_judged(row)} for row in rows])
    if broken:
        raise CorpusError(f"cannot read {_count_corpora(len(broken))}: {broken[0]}")


def _count_judged(corpus: Corpus, qrels: Qrels) -> int:
    """Count the queries with gold in these judgements."""
    grades = (qrels.get(query.query_id, {}).values() for query in corpus.queries)
    return sum(any(grade > 0 for grade in row) for row in grades)


def _format_judged(row: Mapping[str, Any]) -> str:
    """`110 (dev 22, test 88)`."""
    splits = ", ".join(f"{split} {count:,}" for split, count in row["splits"].items())
    return f"{row['judged_queries']:,} ({splits})" if splits else "0"


def _lint(bench: Workbench, options: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    for name in options.names or bench.corpora():
        rows += [{"corpus": name, **asdict(finding)} for finding in lint_named(name, bench.library)]
    if options.json:
        print_json(rows)
    elif rows:
        print_table("What the linter found", ["corpus", "level", "place", "message"], rows)
    else:
        print("no problems found")
    errors = [row for row in rows if row["level"] == "error"]
    if errors:
        unreadable = {row["corpus"] for row in errors}
        raise CorpusError(f"cannot read {_count_corpora(len(unreadable))}: {errors[0]['message']}")


def _count_corpora(count: int) -> str:
    return format_count(count, "corpus", "corpora; the first")

"""The command line: serve, search, eval, bench, corpora, models. `--json` prints one document on stdout and nothing else."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from contextlib import closing
from io import TextIOWrapper
from typing import Any, NoReturn

from rag_inspect import __version__, cli_corpora, cli_eval
from rag_inspect.cli_eval import add_depths
from rag_inspect.cli_examples import add_examples
from rag_inspect.completion import SHELLS, PrintCompletion
from rag_inspect.errors import InputError, RagInspectError
from rag_inspect.options import FIRST_STAGE, SearchOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES
from rag_inspect.settings import Settings
from rag_inspect.terminal import add_json, print_error, print_json, print_lines, print_table, progress
from rag_inspect.types import Reranking, write_search
from rag_inspect.usage import Parser, as_argparse_type, check_usage, parse_port
from rag_inspect.workbench import Workbench

INTERRUPTED = 130  # as a shell has it: 128 + SIGINT


def run() -> NoReturn:
    """Run the command of this process, and end the process with its exit code."""
    code = main()
    if code == INTERRUPTED:  # a thread that is deep in torch would be waited for, or crash as Python ends
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Exit codes: 0 success, 1 error (one line on stderr), 2 usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no arrows prints question marks
    code = _run(options)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _stdout_failed(error) or code
    return code


def _run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code. Its last output may still be buffered."""
    try:
        with closing(Workbench(Settings.from_env())) as bench:
            options.run(bench, options)
    except RagInspectError as error:
        print_error(str(error))
        return 1
    except KeyboardInterrupt as interruption:
        print_error(str(interruption) or "stopped")
        return INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and error.errno != errno.ENOSPC:
            raise
        return _stdout_failed(error)
    return 0


def _stdout_failed(error: OSError) -> int:
    """Drop the buffered output; return 0 if the reader closed the pipe, else 1 with a line on stderr (a full disk)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 0
    print_error(f"the output could not be written ({error.strerror})")
    return 1


def parser() -> argparse.ArgumentParser:
    """Define all commands and their options; a test compares the README with it."""
    top = Parser("rag-inspect", description=sys.modules["rag_inspect"].__doc__)
    top.add_argument("--version", action="version", version=__version__)
    top.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        help="print this shell's completion script",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    _add_serve(commands)
    _add_search(commands)
    cli_eval.add_commands(commands)

    cli_corpora.add_command(commands)

    command = commands.add_parser("models", help="list the models, their revisions, and which are available")
    add_json(command)
    command.set_run(_models)
    add_examples(top, commands.choices)
    return top


def _add_serve(commands: Any) -> None:
    command = commands.add_parser("serve", help="open the web app")
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    command.add_argument(
        "--port", type=as_argparse_type(parse_port), default=7860, help="port to listen on (default: 7860)"
    )
    command.add_argument(
        "--root-path",
        default="",
        metavar="PATH|URL",
        help="where a reverse proxy serves the app: /tools/rag, or the whole URL",
    )
    command.add_argument(
        "--corpus", metavar="NAME|FOLDER", help="open on this corpus; a BEIR folder is added to the list"
    )
    command.add_argument(
        "--replay", metavar="FILE", help="open the replay.json that eval --out wrote; needs no model"
    )
    command.set_run(_serve)


def _add_search(commands: Any) -> None:
    command = commands.add_parser(
        "search", help="run one query: the candidates, the reranked order and what moved"
    )
    command.add_argument("query", metavar="QUERY", nargs="?", help="the query's text")
    command.add_argument(
        "--query-id", metavar="ID", help="a query of the corpus by its id; QUERY may then be left out"
    )
    command.add_argument(
        "--corpus", required=True, metavar="NAME|FOLDER", help="a corpus by name, or a BEIR folder"
    )
    command.add_argument(
        "--embedder", "--first-stage", dest="first_stage", default=FIRST_STAGE, metavar="F",
        help=f"{', '.join(FIRST_STAGES)}, hybrid:A+B or recorded:NAME (default: {FIRST_STAGE})",
    )  # fmt: skip
    command.add_argument("--reranker", choices=RERANKERS, help="(default: base if on disk, else mini)")
    add_depths(command)
    add_json(command)
    command.set_run(_search)


def _serve(bench: Workbench, options: argparse.Namespace) -> None:
    if options.corpus is not None:
        bench.open_on(options.corpus)
    if options.replay:
        from rag_inspect.exports import read_replay

        bench.replay = read_replay(options.replay)
    from rag_inspect.ui import serve

    seen = bench.settings.has_screen and sys.stdout.isatty()
    serve(bench, host=options.host, port=options.port, root_path=options.root_path, inbrowser=seen)


def _read_search_options(options: argparse.Namespace) -> SearchOptions:
    if options.query is None and options.query_id is None:
        raise InputError("there is no query; give QUERY or --query-id")
    return SearchOptions(
        query=options.query or "", query_id=options.query_id, corpus=options.corpus, first_stage=options.first_stage,
        reranker=options.reranker,
        top_k=options.top_k, top_n=options.top_n, keep_identical_ids=options.keep_identical_ids,
    )  # fmt: skip


def _search(bench: Workbench, options: argparse.Namespace) -> None:
    asked = check_usage(options, _read_search_options)
    end: Reranking | None = None
    with progress() as show:
        for moment in bench.search(asked):
            if isinstance(moment, Reranking):
                end = moment
                show("scored", len(moment.ranking), len(moment.candidates))
            else:
                show(str(moment), moment.done, moment.total)
    assert end is not None
    if options.json:
        print_json(write_search([end]))
    else:
        _print_search(end)


def _models(bench: Workbench, options: argparse.Namespace) -> None:
    rows = [
        {
            "key": spec.key,
            "kind": spec.kind,
            "model": spec.model,
            "revision": spec.revision,
            "parameters": spec.parameters,
            "max_tokens": spec.max_tokens,
            "languages": list(spec.languages),
            "licence": spec.licence,
            "available": here.available,
            "source": spec.source,
            "score_name": spec.score_name,
            "price_per_1000": spec.price_per_1000,
            "on_disk": here.on_disk,
            "reason": here.reason,
        }
        for spec, here in bench.models()
    ]
    if options.json:
        print_json(rows)
    else:
        print_table(
            "Models",
            ["key", "kind", "model", "max_tokens", "licence", "source", "available", "on_disk"],
            rows,
        )
        reasons = dict.fromkeys(str(row["reason"]) for row in rows if row["reason"])
        for reason in reasons:  # once for all the models that it is true of
            print_lines(f"{', '.join(str(row['key']) for row in rows if row['reason'] == reason)}: {reason}")


def _print_search(search: Reranking) -> None:
    from rag_inspect.views.formats import format_ms, format_score
    from rag_inspect.views.readings import describe_readings
    from rag_inspect.views.sentences import describe_scoring

    candidates, rows = search.candidates, []
    first, second = candidates.first_stage.score_name, search.reranker.score_name
    for hit, move in zip(search.ranking, search.moves, strict=True):
        passage = candidates.passages[hit.passage_id]
        rows.append(
            {
                "rank": hit.rank,
                "was": move.before,
                **{key: ranks.get(hit.passage_id, "–") for key, ranks in candidates.parts.items()},
                "move": f"{move.delta:+d}" if move.delta else "=",
                second: f"{hit.score:.3f}",
                first: format_score(first, candidates.ranking.score_by_id[hit.passage_id]),
                "gold": "gold" if hit.passage_id in candidates.gold else "",
                "passage": " ".join((passage.title or passage.text).split())[:90],
                "passage_id": hit.passage_id,
            }
        )
    print_lines(search.summary)
    columns = ["rank", "was", *candidates.parts, "move", second, first, "gold", "passage", "passage_id"]
    title = f"{candidates.corpus}: {candidates.first_stage.key} → {search.reranker.key}"
    print_table(title, columns, rows)
    if search.reranker.summary:
        print_lines(f"{second}: {search.reranker.summary}")
    steps = {"rerank": "read the cache"} if search.cached_pairs and not search.scored_pairs else {}
    times = ", ".join(f"{steps.get(name, name)} {format_ms(ms)} ms" for name, ms in search.timings_ms.items())
    took = "; ".join(filter(None, [times, describe_scoring(search)]))
    print_lines(took, *candidates.notes, *search.notes, *describe_readings(search))


if __name__ == "__main__":
    run()

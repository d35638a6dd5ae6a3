"""The commands `search` and `explain`: one query through both stages, and where one passage is for it."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

from rag_inspect.errors import InputError
from rag_inspect.locate import write_location
from rag_inspect.options import FIRST_STAGE, SearchOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES
from rag_inspect.terminal import add_json, print_json, print_lines, print_table, progress
from rag_inspect.types import Corpus, Location, Reranking, write_search
from rag_inspect.usage import add_depths, check_usage
from rag_inspect.workbench import Workbench

NEAREST_AMONG = 50_000  # ids that are compared with one that is not there


def add_commands(commands: Any) -> None:
    """Add both to argparse's subparsers."""
    search = commands.add_parser(
        "search", help="run one query: the candidates, the reranked order and what moved"
    )
    _add_options(search)
    add_json(search)
    search.set_run(run_search)
    explain = commands.add_parser(
        "explain", help="say where a passage is for a query, and what keeps it out of the top n"
    )
    _add_options(explain)
    explain.add_argument("--passage", required=True, metavar="ID", help="the passage, by its id")
    add_json(explain)
    explain.set_run(run_explain)


def _add_options(command: argparse.ArgumentParser) -> None:
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


def _read_options(options: argparse.Namespace) -> SearchOptions:
    if options.query is None and options.query_id is None:
        raise InputError("there is no query; give QUERY or --query-id")
    return SearchOptions(
        query=options.query or "", query_id=options.query_id, corpus=options.corpus, first_stage=options.first_stage,
        reranker=options.reranker,
        top_k=options.top_k, top_n=options.top_n, keep_identical_ids=options.keep_identical_ids,
    )  # fmt: skip


def run_search(bench: Workbench, options: argparse.Namespace) -> None:
    """Run one query and print what moved."""
    end = _run(bench, check_usage(options, _read_options))
    if options.json:
        print_json(write_search([end]))
    else:
        _print_search(end)


def run_explain(bench: Workbench, options: argparse.Namespace) -> None:
    """Run one query, then locate the passage. Raises InputError if the corpus has no such passage."""
    asked = check_usage(options, _read_options)
    corpus = bench.corpus(asked.corpus)
    _check_passage(corpus, options.passage)
    end = _run(bench, asked)
    location = bench.locate(end, options.passage)
    if options.json:
        print_json(write_location(end, location))
    else:
        _print_location(corpus, end, location)


def _check_passage(corpus: Corpus, passage_id: str) -> None:
    if passage_id in corpus.passage_by_id:
        return
    some = list(corpus.passage_by_id)[:NEAREST_AMONG]
    near = difflib.get_close_matches(passage_id[:200], some, n=3, cutoff=0.5)
    nearest = f"the nearest ids are {', '.join(near)}" if near else "no id is like it"
    raise InputError(f'{corpus.name} has no passage "{passage_id[:80]}"; {nearest}')


def _run(bench: Workbench, asked: SearchOptions) -> Reranking:
    """Run a search with its progress on stderr."""
    end: Reranking | None = None
    with progress() as show:
        for moment in bench.search(asked):
            if isinstance(moment, Reranking):
                end = moment
                show("scored", len(moment.ranking), len(moment.candidates))
            else:
                show(str(moment), moment.done, moment.total)
    assert end is not None
    return end


def _print_location(corpus: Corpus, search: Reranking, location: Location) -> None:
    print_lines(location.words)
    first, count = search.candidates.first_stage.key, len(search.candidates)
    rows = [
        {"ranking": f"{key}, all {len(corpus.passages):,} passages", "rank": rank or "not found"}
        for key, rank in location.exact_ranks.items()
    ]
    ranks = {first: location.first_stage_rank, f"{first}>>{search.reranker.key}": location.reranked_rank}
    rows += [
        {"ranking": f"{key}, {count} candidates", "rank": rank or "not among them"}
        for key, rank in ranks.items()
    ]
    print_table(f"{corpus.name}: {location.passage_id}", ["ranking", "rank"], rows)


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

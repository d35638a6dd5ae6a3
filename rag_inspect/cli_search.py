"""The commands `search` and `explain`: one query through both stages, and why one passage is where it is."""

from __future__ import annotations

import argparse
from typing import Any

from rag_inspect.errors import InputError
from rag_inspect.explain import write_explanation
from rag_inspect.locate import find_passage
from rag_inspect.options import FIRST_STAGE, SearchOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES, find_first_stage
from rag_inspect.terminal import add_json, print_json, print_lines, print_table, progress
from rag_inspect.types import Corpus, Explanation, Location, Reranking, write_search
from rag_inspect.usage import add_depths, add_gold_grade, check_usage
from rag_inspect.views.explanation import describe_check, describe_rivals, describe_unread, format_ordinal
from rag_inspect.workbench import Workbench


def add_commands(commands: Any) -> None:
    """Add both to argparse's subparsers."""
    search = commands.add_parser(
        "search", help="run one query: the candidates, the reranked order and what moved"
    )
    _add_options(search)
    add_json(search)
    search.set_run(run_search)
    explain = commands.add_parser(
        "explain",
        help="say where a passage is for a query, what keeps it there, and what each of its sentences does",
    )
    _add_options(explain)
    explain.add_argument("--passage", required=True, metavar="ID", help="the passage, by its id")
    explain.add_argument("--against", metavar="ID", help="another passage, explained the same way")
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
    add_gold_grade(command)


def _read_options(options: argparse.Namespace) -> SearchOptions:
    if options.query is None and options.query_id is None:
        raise InputError("there is no query; give QUERY or --query-id")
    return SearchOptions(
        query=options.query or "", query_id=options.query_id, corpus=options.corpus, first_stage=options.first_stage,
        reranker=options.reranker,
        top_k=options.top_k, top_n=options.top_n, keep_identical_ids=options.keep_identical_ids, gold_grade=options.gold_grade,
    )  # fmt: skip


def run_search(bench: Workbench, options: argparse.Namespace) -> None:
    """Run one query and print what moved."""
    end = _run(bench, check_usage(options, _read_options))
    if options.json:
        print_json(write_search([end]))
    else:
        _print_search(end)


def run_explain(bench: Workbench, options: argparse.Namespace) -> None:
    """Run one query, then locate and explain the passage. Raises InputError if the corpus has no such passage."""
    asked = check_usage(options, _read_options)
    corpus = bench.corpus(asked.corpus)
    ids = [options.passage, *([options.against] if options.against is not None else [])]
    for passage_id in ids:
        find_passage(corpus, passage_id)
    end = _run(bench, asked)
    location = bench.locate(end, options.passage, corpus=asked.corpus)
    own, *others = (_explain(bench, end, passage_id, asked.corpus) for passage_id in ids)
    if options.json:
        print_json(write_explanation(end, location, own, *others))
        return
    _print_location(corpus, end, location)
    for explained in (own, *others):
        _print_explanation(end, explained)
    for other in others:
        print_lines(describe_rivals(own, other))


def _explain(bench: Workbench, search: Reranking, passage_id: str, corpus: str) -> Explanation:
    """Explain a passage with its progress on stderr."""
    end: Explanation | None = None
    with progress() as show:
        for moment in bench.explain(search, passage_id, corpus=corpus):
            if isinstance(moment, Explanation):
                end = moment
                show(f"explaining {passage_id}", moment.done, moment.total)
            else:
                show(str(moment), moment.done, moment.total)
    assert end is not None
    return end


def _print_explanation(search: Reranking, explained: Explanation) -> None:
    score = f"{search.reranker.score_name} {explained.score:.3f}, {format_ordinal(explained.rank)}"
    for what, effects in (("part", explained.parts), ("word of the query", explained.words)):
        rows = [
            {
                "Δ": f"{effect.delta:+.2f}",
                "without it": format_ordinal(effect.rank_without),
                what: " ".join(effect.span.text.split()),
            }
            for effect in effects
        ]
        if rows:
            print_table(f"{explained.passage_id}: {score}", list(rows[0]), rows)
    print_lines(describe_check(explained), *describe_unread(explained), *explained.notes)


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
        {"ranking": f"{key}, {_name_whole(key, corpus)}", "rank": rank or "not found"}
        for key, rank in location.exact_ranks.items()
    ]
    ranks = {first: location.first_stage_rank, f"{first}>>{search.reranker.key}": location.reranked_rank}
    rows += [
        {"ranking": f"{key}, {count} candidates", "rank": rank or "not among them"}
        for key, rank in ranks.items()
    ]
    print_table(f"{corpus.name}: {location.passage_id}", ["ranking", "rank"], rows)


def _name_whole(first_stage: str, corpus: Corpus) -> str:
    recorded = find_first_stage(first_stage).kind == "recorded"
    return "all that was recorded" if recorded else f"all {len(corpus.passages):,} passages"


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

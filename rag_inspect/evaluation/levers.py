"""What would bring the gold in: for queries whose gold is not among the candidates, who ranks it within top_k, or how deep it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rag_inspect.evaluation.document import Lever, Levers
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.types import Query

DEPTHS = (30, 50, 100)  # of the first stage, deeper than it was searched
MOST_QUERIES = 500  # examined; more of them say the same

Ranker = Callable[[Sequence[tuple[Query, Sequence[str]]]], Sequence[Mapping[str, int]]]
"""Returns the true rank of each query's wanted passages."""
Reach = Mapping[str, Mapping[str, int | None]]
"""query id -> first stage -> the true rank of the query's best gold in the whole corpus; None if it is not ranked"""


def find_reach(
    queries: Sequence[Query], gold: Mapping[str, Sequence[str]], rankers: Mapping[str, Ranker]
) -> dict[str, dict[str, int | None]]:
    """Return the Reach of these queries; `gold` are the passages of the corpus that are gold for each. Raises RetrievalError.

    rankers: first stage -> its `rank_exactly`.
    """
    asked = [query for query in queries if gold[query.query_id]][:MOST_QUERIES]
    reach: dict[str, dict[str, int | None]] = {query.query_id: {} for query in asked}
    for key, rank in rankers.items() if asked else ():
        ranks = rank([(query, gold[query.query_id]) for query in asked])
        for query, found in zip(asked, ranks, strict=True):
            reach[query.query_id][key] = min(found.values(), default=None)
    return reach


def weigh_levers(outcome: Outcome) -> Levers | None:
    """Count which lever reaches how many of the queries that the first of the first stages does not; None without any."""
    own, top_k = outcome.stages[0].key, outcome.top_k
    missed = [outcome.queries[row].query_id for row in np.flatnonzero(outcome.judged[own].first_gold == 0)]
    reach = {query_id: outcome.reach[query_id] for query_id in missed if query_id in outcome.reach}
    if not reach:
        return None
    depths = [depth for depth in DEPTHS if top_k < depth <= outcome.passage_count]
    others = [key for key in next(iter(reach.values())) if key != own]
    reached = {
        f"top_k {depth}": {qid for qid, ranks in reach.items() if _within(ranks.get(own), depth)}
        for depth in depths
    } | {key: {qid for qid, ranks in reach.items() if _within(ranks.get(key), top_k)} for key in others}
    by_any = set[str]().union(*reached.values())
    counts = {name: len(queries) for name, queries in reached.items()}
    # A greater depth that reaches no more is no lever of its own; of equal ones, those that cost no depth come first.
    deep = [counts[f"top_k {depth}"] for depth in depths]
    kept = [f"top_k {depth}" for at, depth in enumerate(depths) if deep[at] > max(deep[:at], default=0)]
    levers = [Lever(name=name, reaches=counts[name]) for name in (*others, *kept)]
    return Levers(
        first_stage=own,
        unreachable=len(missed),
        examined=len(reach),
        levers=tuple(sorted(levers, key=lambda lever: -lever.reaches)),
        found_by_none=len(reach) - len(by_any),
        ranks={qid: dict(ranks) for qid, ranks in reach.items()},
    )


def _within(rank: int | None, depth: int) -> bool:
    return rank is not None and rank <= depth

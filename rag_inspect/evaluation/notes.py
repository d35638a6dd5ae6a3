"""Notes for the reader of an evaluation: on the eval set, the depth, the comparison and the latency."""

from __future__ import annotations

from collections.abc import Iterator

from rag_inspect.evaluation.advice import describe_change, is_significant
from rag_inspect.evaluation.document import Numbers, SystemResult
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.metrics import parse
from rag_inspect.words import format_count

COUNTS = {
    "unjudged": ("query has no judgements in this split and was left out",
                 "queries have no judgements in this split and were left out"),
    "without_gold": ("query is judged, but nothing is relevant to it; it was left out",
                     "queries are judged, but nothing is relevant to them; they were left out"),
    "unknown_gold": ("gold id is not in the corpus; no system can find it, and it counts as not found",
                     "gold ids are not in the corpus; no system can find them, and they count as not found"),
    "repeated": ("query repeats the text of another; intervals and p count each text once",
                 "queries repeat the text of another; intervals and p count each text once"),
    "twin_gold": ("gold passage has a duplicate that is not gold; a system that ranks the duplicate first is penalised",
                  "gold passages have a duplicate that is not gold; a system that ranks the duplicate first is penalised"),
    "left_out": ("query was among its own candidates (a passage has its id) and was left out there; keep_identical_ids keeps it",
                 "queries were among their own candidates (passages have their ids) and were left out there; keep_identical_ids keeps them"),
    "tied": ("query's last candidate ties with passages that did not fit into top_k; ties keep the corpus's order",
             "queries' last candidates tie with passages that did not fit into top_k; ties keep the corpus's order"),
}  # fmt: skip
"""count in an Outcome -> its sentence, singular and plural"""
UNREAD = {
    "cut_gold": ("gold passage is longer than {model} reads; the model did not read its end",
                 "gold passages are longer than {model} reads; the model did not read their end"),
    "cut_queries": ("query is longer than {model} reads; the model did not read its end",
                    "queries are longer than {model} reads; the model did not read their end"),
    "unread_queries": ("query has no character that {model} knows; its ranking means nothing",
                       "queries have no character that {model} knows; their rankings mean nothing"),
}  # fmt: skip
"""the same for what a model did not read; the count's name ends with a colon and the model's key"""


def take_notes(numbers: Numbers, outcome: Outcome) -> tuple[str, ...]:
    """Write the notes, one sentence each. The outcome has its own notes on how the run went."""
    return (*_note_eval_set(outcome), *_note_depth(numbers, outcome), *_note_comparison(numbers))


def _note_eval_set(outcome: Outcome) -> Iterator[str]:
    counts = outcome.counts
    for name, words in COUNTS.items():
        if counts.get(name):
            yield f"{format_count(counts[name], *words)}."
    for name, count in counts.items():
        kind, _, model = name.partition(":")
        if kind in UNREAD and count:
            yield f"{format_count(count, *UNREAD[kind])}.".format(model=model)


def _note_depth(numbers: Numbers, outcome: Outcome) -> Iterator[str]:
    reached = outcome.places.shape[1]
    deeper = [name for name in numbers.first_stage.metrics if parse(name).cutoff > reached]
    itself = outcome.counts.get("left_out") == numbers.queries  # then each query has one passage fewer
    if deeper and reached + itself < numbers.passages:
        yield (
            f"Only {reached} candidates were retrieved: {', '.join(parse(name).label for name in deeper)} "
            f"cover{'s' if len(deeper) == 1 else ''} only these."
        )


def _note_comparison(numbers: Numbers) -> Iterator[str]:
    if numbers.distinct_queries == 1:
        yield "One query says nothing about others, so the intervals span the whole scale."
    for system in numbers.rerankers:
        change, label = system.versus_first_stage[numbers.primary], parse(numbers.primary).label
        if not is_significant(change) and numbers.distinct_queries > 1:
            yield (
                f"{format_count(numbers.queries)} detect a change of {change.resolvable:.3f} in {label} "
                f"(80 % power); {system.key}'s {describe_change(change)} is within noise."
            )
        yield from _note_latency(system)
    if len(numbers.rerankers) > 1:
        yield "Several rerankers were compared. p_holm is corrected for this (Holm 1979), p_value is not; the advice uses p_holm."


def _note_latency(system: SystemResult) -> Iterator[str]:
    if system.latency.source == "unknown":
        yield f"The latency of {system.key} was not measured."
    elif system.latency.source == "sample":
        yield f"One query at a time, {system.key} was timed on {format_count(system.latency.queries)}."

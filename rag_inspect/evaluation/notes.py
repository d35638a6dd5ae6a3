"""Notes for the reader of an evaluation: on the eval set, the depth, the comparison and the latency."""

from __future__ import annotations

from collections.abc import Iterator

from rag_inspect.evaluation.document import Numbers
from rag_inspect.evaluation.fusion import LEAST_QUERIES
from rag_inspect.evaluation.latency import is_explained
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.systems import split_key
from rag_inspect.metrics import Metric, parse
from rag_inspect.words import format_count

COUNTS = {
    "unjudged": ("query has no judgements in this split and was left out",
                 "queries have no judgements in this split and were left out"),
    "without_gold": ("query is judged, but has no gold passage; it was left out",
                     "queries are judged, but have no gold passage; they were left out"),
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
    return (
        *_note_eval_set(outcome),
        *_note_depth(numbers, outcome),
        *_note_halves(numbers, outcome.fused is not None),
        *_note_short_rankings(outcome),
        *_note_unjudged(numbers, outcome),
        *_note_comparison(numbers),
        *_note_latency(numbers, outcome),
    )


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
    reached = outcome.depth
    deeper = [name for name in numbers.tooltips if parse(name).cutoff > reached]
    itself = outcome.counts.get("left_out") == numbers.queries  # then each query has one passage fewer
    if deeper and reached + itself < numbers.passages:
        yield (
            f"Only {reached} candidates were retrieved: {', '.join(parse(name).label for name in deeper)} "
            f"cover{'s' if len(deeper) == 1 else ''} only these."
        )


def _note_halves(numbers: Numbers, fused: bool) -> Iterator[str]:
    if not fused:
        yield "This run has no tuned fusion of an embedder and BM25 to compare with."
    elif not numbers.splits:
        yield (
            f"{format_count(numbers.distinct_queries, 'distinct query makes', 'distinct queries make')} no halves to tune "
            f"and measure on ({LEAST_QUERIES} would): there is no tuned fusion and no blend."
        )


def _note_short_rankings(outcome: Outcome) -> Iterator[str]:
    """Say which first stages found less than there was room for."""
    room = min(outcome.top_k, outcome.passage_count - 1)  # one passage may be the query itself
    for stage in outcome.stages:
        found = (stage.places >= 0).sum(axis=1)
        if nothing := int((found == 0).sum()):
            yield f"{stage.key} found nothing for {format_count(nothing)}; no system that starts with it can help there."
        if short := int(((found > 0) & (found < room)).sum()):
            yield f"{stage.key} found fewer than {room} candidates for {format_count(short)}; only these were reranked."


def _note_unjudged(numbers: Numbers, outcome: Outcome) -> Iterator[str]:
    """Say if the system decided on brings more unjudged passages up than the baseline, or fewer.

    Where only gold was judged, this says nothing that recall does not say.
    """
    if all(grade > 0 for grades in outcome.qrels.values() for grade in grades.values()):
        return
    judged, keys = Metric("judged", numbers.top_n), (numbers.decision.system, numbers.baseline)
    found = {key: numbers.find(key).metrics[str(judged)].value for key in keys}
    if len({round(100 * share) for share in found.values()}) > 1:
        shares = ", ".join(f"{share:.0%} of {key}'s" for key, share in found.items())
        yield f"Judged are, of the first {numbers.top_n} passages, {shares}; an unjudged one counts as not gold."


def _note_comparison(numbers: Numbers) -> Iterator[str]:
    if numbers.distinct_queries == 1:
        yield "One query says nothing about others, so the intervals span the whole scale."
    if len(numbers.systems) > 2:
        yield "Several systems were compared, and p is corrected for this (Holm 1979)."


def _note_latency(numbers: Numbers, outcome: Outcome) -> Iterator[str]:
    unknown = [
        system.key
        for system in numbers.systems
        if system.latency.source == "unknown"
        and system.kind != "fused"  # it takes what its parts take
        and not is_explained(split_key(system.key), outcome.notes)
    ]
    if unknown:
        yield f"The latency of {', '.join(unknown)} was not measured."
    machine = numbers.machine
    if machine is None:
        return
    load = "" if machine.load is None else f", load average {machine.load:.1f}"
    on = f"{machine.cpu}, {format_count(machine.cores, 'core', 'cores')}, {machine.device}{load}"
    yield f"Latencies are medians of single queries, timed on {on}."
    if machine.was_busy:
        yield (
            f"The machine was busy while it was timed (load average {machine.load:.1f} on "
            f"{format_count(machine.cores, 'core', 'cores')}), so the latencies are too high; evaluate again when it is idle."
        )

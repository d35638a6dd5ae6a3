"""What to do after an evaluation: a table of rules, each with the numbers it looks at and its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag_inspect.corpora.language import LANGUAGE_NAMES
from rag_inspect.evaluation.document import Advice, Change, Numbers, SystemResult
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.systems import Model
from rag_inspect.metrics import parse
from rag_inspect.words import format_count, format_p

SMALL_CORPUS = 200
FEW_QUERIES = 25
CHANCE = 0.05  # a change with this p or a higher one may be chance
MUCH = 0.10  # a share of recall that is worth acting on
MOST_OF_IT = 0.8  # do not suggest a depth above this share of the full depth: it saves too little


@dataclass(frozen=True)
class Rule:
    """`says` returns the advice, or None if the rule does not apply; `looks_at` may contain {metric} and {recall}."""

    name: str
    looks_at: str
    source: str
    says: Callable[[Numbers, Outcome], str | None]


def advise(numbers: Numbers, outcome: Outcome) -> tuple[Advice, ...]:
    """Return the advice of every rule that applies, most important first."""
    found = [(rule, rule.says(numbers, outcome)) for rule in RULES]
    named = {"metric": parse(numbers.primary).label, "recall": numbers.ceiling_bars[0].metric}
    return tuple(
        Advice(rule=r.name, text=text, looks_at=r.looks_at.format(**named), source=r.source)
        for r, text in found
        if text
    )


def is_significant(change: Change) -> bool:
    """Return True if the 95 % interval excludes 0 and the Holm-corrected p is below 0.05.

    Both are needed: with few queries the bootstrap interval is too narrow, but the randomisation test is exact.
    """
    low, high = change.ci95
    return bool((low > 0 or high < 0) and change.p_holm < CHANCE)


def describe_change(change: Change, *, as_loss: bool = False) -> str:
    """Write a change with its interval and its Holm-corrected p; `as_loss` writes a drop as a positive number."""
    delta, low, high = (f"{value:+.3f}" for value in (change.delta, *change.ci95))
    if as_loss:
        delta, low, high = (f"{-value:.3f}" for value in (change.delta, *reversed(change.ci95)))
    return f"{delta} (95 % interval {low} to {high}, p {format_p(change.p_holm, equals='= ')})"


def find_best(numbers: Numbers) -> SystemResult:
    """Return the reranked system with the highest primary metric; the first one if several are equal."""
    return max(numbers.reranked, key=_value(numbers))


def _value(numbers: Numbers) -> Callable[[SystemResult], float]:
    return lambda system: system.metrics[numbers.primary].value


def choose_system(numbers: Numbers) -> SystemResult:
    """Choose the cheapest reranked system with a clear lift over the baseline and no detectable loss against the best.

    If there is none, it is the best.
    """
    near = [
        system for system in numbers.reranked if system.versus_best is None or system.versus_best.ci95[1] >= 0
    ]
    lifts = [system for system in near if _lifts(system.versus_baseline[numbers.primary])]
    timed = all(system.latency.p50 is not None for system in lifts)

    def cost(system: SystemResult) -> float:
        return (system.latency.p50 or 0.0) if timed else system.system.model.parameters

    return min(lifts, key=cost) if lifts else find_best(numbers)


def _primary(numbers: Numbers) -> str:
    return parse(numbers.primary).label


def _lifts(change: Change) -> bool:
    return is_significant(change) and change.delta > 0


def _change(numbers: Numbers) -> tuple[SystemResult, Change]:
    """Return the system to decide about, and what it changes against the baseline."""
    chosen = choose_system(numbers)
    return chosen, chosen.versus_baseline[numbers.primary]


def _decided(numbers: Numbers) -> bool:
    """Return True if this run alone supports a decision: the change is clear and there are enough queries."""
    return is_significant(_change(numbers)[1]) and numbers.distinct_queries >= FEW_QUERIES


def _pays(numbers: Numbers) -> bool:
    return _decided(numbers) and _change(numbers)[1].delta > 0


def _few_queries(numbers: Numbers, outcome: Outcome) -> str | None:
    n = numbers.distinct_queries
    if n >= FEW_QUERIES:
        return None
    asked = format_count(n, "judged query", "judged queries")
    if n < numbers.queries:
        asked = f"{asked} (and {format_count(numbers.queries - n, 'repetition', 'repetitions')})"
    return f"Only {asked}: any difference here may be chance. Judge at least {FEW_QUERIES}."


def _first_stage_language(numbers: Numbers, outcome: Outcome) -> str | None:
    lost = min(bar.unreachable for bar in numbers.ceiling_bars)
    models, metric = [stage.first_stage.model for stage in outcome.stages], f"recall@{outcome.top_k}"
    if any(_reads(model, outcome) for model in models) or lost < MUCH:
        return None
    model = max(models, key=lambda model: numbers.ceilings[model.key][metric])
    return (
        f"{model.key}, the first stage, reads {_join_languages(model.languages)}; {_corpus_is_in(outcome)}, and "
        f"{metric} is {numbers.ceilings[model.key][metric]:.3f}. Use a multilingual first stage (bge-m3) before a multilingual reranker."
    )


def _other_language(numbers: Numbers, outcome: Outcome) -> str | None:
    """If no reranker supports all languages of the corpus, report what the best one did here."""
    best = find_best(numbers)
    model = best.system.model
    if any(_reads(reranker, outcome) for reranker in outcome.rerankers):
        return None
    change = best.versus_first_stage[numbers.primary]
    lifts = _lifts(change)
    effect = "a clear lift" if lifts else "a clear loss" if is_significant(change) else "within noise"
    return (
        f"{model.key} reads {_join_languages(model.languages)}, {_corpus_is_in(outcome)}; {_primary(numbers)} changes by "
        f"{describe_change(change)}, {effect}. Use a multilingual reranker (v2-m3)"
        + (" and see whether it lifts more." if lifts else ".")
    )


def _reads(model: Model, outcome: Outcome) -> bool:
    """Return False only if the languages of both are known and the model lacks one of the corpus's."""
    reads = set(model.languages)
    return not reads or "multilingual" in reads or set(outcome.languages) <= reads


def _corpus_is_in(outcome: Outcome) -> str:
    source = "according to its card" if outcome.language_source == "card" else "guessed from its text"
    return f"this corpus is in {_join_languages(outcome.languages)} ({source})"


def _join_languages(languages: Sequence[str]) -> str:
    *most, last = (LANGUAGE_NAMES.get(language, language) for language in languages)
    return f"{', '.join(most)} and {last}" if most else last


def _small_corpus(numbers: Numbers, outcome: Outcome) -> str | None:
    return None if _decided(numbers) else _write_small_corpus(outcome, ".")


def _small_corpus_measured(numbers: Numbers, outcome: Outcome) -> str | None:
    here = "; here it does." if _pays(numbers) else ", and here it does not."
    return _write_small_corpus(outcome, here) if _decided(numbers) else None


def _write_small_corpus(outcome: Outcome, here: str) -> str | None:
    n = outcome.passage_count
    if n >= SMALL_CORPUS:
        return None
    share = (
        f"Top {outcome.top_k} is {outcome.top_k / n:.0%} of it"
        if outcome.top_k < n
        else "All of it is reranked"
    )
    return (
        f"The corpus has {format_count(n, 'passage', 'passages')}: under {SMALL_CORPUS} a reranker seldom pays{here} "
        f"{share}; passing more passages to the answer step may be enough."
    )


def _recall_first(numbers: Numbers, outcome: Outcome) -> str | None:
    reranked = {system.key for system in numbers.reranked}
    bar = max((bar for bar in numbers.ceiling_bars if bar.system in reranked), key=lambda bar: bar.achieved)
    if bar.unreachable < MUCH or bar.unreachable <= bar.recoverable:
        return None
    candidates = format_count(min(outcome.top_k, outcome.passage_count), "candidate", "candidates")
    return (
        f"Fix recall first: {bar.unreachable:.0%} of {bar.metric} is out of reach because the gold is not among the "
        f"{candidates}; a perfect reranker would add {bar.recoverable:.0%}. "
        "Raise top_k, change the embedder, or split passages differently."
    )


def _hurts(numbers: Numbers, outcome: Outcome) -> str | None:
    best, change = _change(numbers)
    if not is_significant(change) or change.delta > 0:
        return None
    loss = describe_change(change, as_loss=True)
    return f"Drop the reranker: {best.key} lowers {_primary(numbers)} by {loss} against {numbers.baseline}."


def _keep(numbers: Numbers, outcome: Outcome) -> str | None:
    chosen, change = _change(numbers)
    if not _pays(numbers):
        return None
    spent, first = chosen.latency.p50, numbers.find(numbers.baseline).latency.p50
    more = 0 if spent is None or first is None else spent - first
    cost = f", for {more:,.0f} ms a query" if more >= 1 else ""
    best = find_best(numbers)
    rival = (
        "" if best is chosen else f"; no detectable difference from {best.key} ({_value(numbers)(best):.3f})"
    )
    return f"Keep {chosen.key}: {_primary(numbers)} {describe_change(change)} against {numbers.baseline}{cost}{rival}."


def _within_noise(numbers: Numbers, outcome: Outcome) -> str | None:
    best, change = _change(numbers)
    if is_significant(change):
        return None
    return (
        f"The change is within noise: {best.key} changes {_primary(numbers)} by {describe_change(change)} against "
        f"{numbers.baseline} over {format_count(numbers.queries, 'query', 'queries')}; this many queries detect a change of {change.resolvable:.3f} "
        "(80 % power). Judge more queries, or drop the reranker."
    )


def _shallower(numbers: Numbers, outcome: Outcome) -> str | None:
    """Never suggest a depth below top_n: the reranker could reorder the top n, but bring nothing into it."""
    if not _pays(numbers):
        return None
    key, kept = choose_system(numbers).key, f"recall@{outcome.top_n}"
    *_, full = points = [p for p in numbers.frontier if p.system == key and p.depth]
    enough = (p for p in points if p.depth >= outcome.top_n and p.within_noise and p.keeps_recall)
    point = next(enough, full)
    if point.depth > MOST_OF_IT * full.depth:
        return None
    saved = (full.latency_ms or 0) - (point.latency_ms or 0)
    gain = f" and save {saved:,.0f} ms a query" if saved >= 1 else ""
    return (
        f"Rerank {point.depth} of {full.depth} in {key}{gain}: with {format_count(numbers.queries)} there is no "
        f"detectable loss in {_primary(numbers)} or {kept}."
    )


def _larger(numbers: Numbers, outcome: Outcome) -> str | None:
    chosen, _ = _change(numbers)
    bar = next(bar for bar in numbers.ceiling_bars if bar.system == chosen.key)
    model, most = chosen.system.model, max(reranker.parameters for reranker in outcome.rerankers)
    if bar.recoverable < MUCH or most > 500_000_000 or most > model.parameters:
        return None
    return (
        f"Try a larger reranker: a perfect one would still add {bar.recoverable:.3f} to {bar.metric}, and {model.key} "
        f"is a small model ({model.parameters / 1e6:,.0f}M parameters)."
    )


_CHANGE = "the change of {metric} with its 95 % interval and p"
_PAIRED = "paired bootstrap and randomisation test over these queries, Holm-corrected over the systems"
_FITS = "a corpus that fits in a prompt needs no retrieval: Anthropic, Contextual Retrieval, 2024; the limit of 200 is ours"

# In order of priority. A rule of thumb comes before the measurement only if the measured change is not clear.
RULES = (
    Rule("few_queries", "the number of judged queries", "with 25 queries, another set of queries often reverses the conclusion: Voorhees & Buckley, SIGIR 2002", _few_queries),
    Rule("first_stage_language", "the languages of the first stage and of the corpus; the recall of the candidates", "the model's card, the corpus, and the recall measured here", _first_stage_language),
    Rule("small_corpus", "the number of passages; the change of {metric} is not clear", _FITS, _small_corpus),
    Rule("recall_first", "the share of {recall} that is not among the candidates, and the share that a perfect reranker would add", "a reranker only reorders its candidates, so their recall is its ceiling", _recall_first),
    Rule("other_language", f"the languages of the reranker and of the corpus; {_CHANGE}", "the model's card, the corpus, and the change measured here", _other_language),
    Rule("hurts", _CHANGE, _PAIRED, _hurts),
    Rule("keep", f"{_CHANGE}; the latency", _PAIRED, _keep),
    Rule("small_corpus_measured", f"the number of passages; {_CHANGE}", _FITS, _small_corpus_measured),
    Rule("within_noise", _CHANGE, _PAIRED, _within_noise),
    Rule("shallower", "the smallest depth, at least top n, with no detectable loss in {metric} or {recall} against the best; the change is a clear lift", "paired bootstrap at every depth of this run", _shallower),
    Rule("larger", "the share of {recall} that a perfect reranker would add; the number of parameters", "the gap between this reranker and a perfect one", _larger),
)  # fmt: skip

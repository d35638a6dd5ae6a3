"""What to do after an evaluation: a table of rules, each with the numbers it looks at and its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag_inspect.corpora.language import LANGUAGE_NAMES
from rag_inspect.evaluation.document import Advice, CeilingBar, Change, Numbers, SystemResult
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.systems import Model, split_key
from rag_inspect.metrics import parse
from rag_inspect.words import format_count, format_p

SMALL_CORPUS = 200
CHANCE = 0.05  # a change with this p or a higher one may be chance
MUCH = 0.10  # a share of recall that is worth acting on


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


def describe_change(change: Change) -> str:
    """Write a change with its interval and its Holm-corrected p."""
    delta, low, high = (f"{value:+.3f}" for value in (change.delta, *change.ci95))
    return f"{delta} (95 % interval {low} to {high}, p {format_p(change.p_holm, equals='= ')})"


def find_best(numbers: Numbers) -> SystemResult:
    """Return the reranked system with the highest primary metric; the first one if several are equal."""
    return max(numbers.reranked, key=_value(numbers))


def _value(numbers: Numbers) -> Callable[[SystemResult], float]:
    return lambda system: system.metrics[numbers.primary].value


def _primary(numbers: Numbers) -> str:
    return parse(numbers.primary).label


def _lifts(change: Change) -> bool:
    return is_significant(change) and change.delta > 0


def _decision(numbers: Numbers, outcome: Outcome) -> str:
    return numbers.decision.reason


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


def _levers(numbers: Numbers, outcome: Outcome) -> str | None:
    """Say what reaches the unreachable, unless `recall_first` does."""
    said = numbers.levers is not None and numbers.levers.words in (_recall_first(numbers, outcome) or "")
    return None if numbers.levers is None or said else numbers.levers.words


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


def _is_decided(numbers: Numbers) -> bool:
    return numbers.decision.verdict != "undecided"


def _small_corpus(numbers: Numbers, outcome: Outcome) -> str | None:
    return None if _is_decided(numbers) else _write_small_corpus(outcome, ".")


def _small_corpus_measured(numbers: Numbers, outcome: Outcome) -> str | None:
    here = "; here it does." if numbers.decision.verdict == "use" else ", and here it does not."
    return _write_small_corpus(outcome, here) if _is_decided(numbers) else None


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
    """Look at the first stage that leaves least out of reach: what another one of the run reaches needs no mending."""
    bar = min((bar for bar in numbers.ceiling_bars if bar.system in numbers.first_stages), key=_out_of_reach)
    best = max(
        (each for each in numbers.ceiling_bars if split_key(each.system)[0] == bar.system),
        key=lambda each: each.achieved,
    )
    if bar.unreachable < MUCH or bar.unreachable <= best.recoverable:
        return None
    candidates = format_count(min(outcome.top_k, outcome.passage_count), "candidate", "candidates")
    levers = numbers.levers.words if numbers.levers and numbers.levers.first_stage == bar.system else ""
    return (
        f"Fix recall first: {bar.unreachable:.0%} of {bar.metric} is out of reach because the gold is not among the "
        f"{candidates} of {bar.system}; a perfect reranker would add {best.recoverable:.0%}. "
        f"{levers or 'Raise top_k, change the embedder, or split passages differently.'}"
    )


def _out_of_reach(bar: CeilingBar) -> float:
    return bar.unreachable


def _larger(numbers: Numbers, outcome: Outcome) -> str | None:
    chosen = numbers.find(numbers.decision.system)
    bar = next(bar for bar in numbers.ceiling_bars if bar.system == chosen.key)
    model, most = chosen.system.model, max(reranker.parameters for reranker in outcome.rerankers)
    if bar.recoverable < MUCH or most > 500_000_000 or most > model.parameters:
        return None
    return (
        f"Try a larger reranker: a perfect one would still add {bar.recoverable:.3f} to {bar.metric}, and {model.key} "
        f"is a small model ({model.parameters / 1e6:,.0f}M parameters)."
    )


_CHANGE = "the change of {metric} with its 95 % interval and p"
_PAIRED = "paired bootstrap over these queries, against the margin"
_FITS = "a corpus that fits in a prompt needs no retrieval: Anthropic, Contextual Retrieval, 2024; the limit of 200 is ours"

# In order of priority: the measurement, then what may be behind it.
RULES = (
    Rule("decision", "the change of {metric} with its 95 % interval, and the margin", _PAIRED, _decision),
    Rule("first_stage_language", "the languages of the first stage and of the corpus; the recall of the candidates", "the model's card, the corpus, and the recall measured here", _first_stage_language),
    Rule("small_corpus", "the number of passages; the change of {metric} is not clear", _FITS, _small_corpus),
    Rule("recall_first", "the share of {recall} that is not among the candidates, and the share that a perfect reranker would add", "a reranker only reorders its candidates, so their recall is its ceiling", _recall_first),
    Rule("levers", "the true ranks of the gold that is not among the candidates", "brute force over the stored vectors, and BM25", _levers),
    Rule("other_language", f"the languages of the reranker and of the corpus; {_CHANGE}", "the model's card, the corpus, and the change measured here", _other_language),
    Rule("small_corpus_measured", f"the number of passages; {_CHANGE}", _FITS, _small_corpus_measured),
    Rule("larger", "the share of {recall} that a perfect reranker would add; the number of parameters", "the gap between this reranker and a perfect one", _larger),
)  # fmt: skip

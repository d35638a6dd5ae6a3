"""What to do, in one line each: a table of rules, each naming the number it looks at and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_inspect.evaluation.outcome import Outcome

SMALL_CORPUS = 200
FEW_QUERIES = 25
MUCH = 0.10  # of recall: enough to be worth someone's time
NAMES = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese", "nl": "Dutch",
    "pl": "Polish", "zh": "Chinese", "ja": "Japanese", "other": "another language",
}  # fmt: skip
MOST_OF_IT = 0.8  # of the depth: a cut that leaves more than this is not worth a word

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """`says` returns the advice, or None where it does not apply."""

    name: str
    looks_at: str
    source: str
    says: Callable[[Document, Outcome], str | None]


def advise(document: Document, outcome: Outcome) -> list[dict[str, str]]:
    """Every rule that applies, the most pressing first; the first is the line to show."""
    found = [(rule, rule.says(document, outcome)) for rule in RULES]
    return [
        {"rule": r.name, "text": text, "looks_at": r.looks_at, "source": r.source}
        for r, text in found
        if text
    ]


def best_reranker(document: Document) -> Document:
    """The reranker with the highest primary metric; the first asked for among equals."""
    return max(document["systems"][1:], key=_value(document))


def _value(document: Document) -> Callable[[Document], float]:
    return lambda system: float(system["metrics"][document["primary"]]["value"])


def _change(document: Document) -> tuple[Document, Document]:
    best = best_reranker(document)
    return best, best["versus_first_stage"][document["primary"]]


def _shown(change: Document) -> str:
    return f"{change['delta']:+.3f} [{change['ci95'][0]:+.3f}, {change['ci95'][1]:+.3f}]"


def _noise(change: Document) -> bool:
    return bool(change["ci95"][0] <= 0 <= change["ci95"][1])


def _other_language(document: Document, outcome: Outcome) -> str | None:
    """Every reranker that does not list a language of the corpus, and what it did here."""
    if not outcome.languages:
        return None
    here = _named(outcome.languages)
    source = "its card says" if outcome.language_source == "card" else "its words say"
    for system, row in zip(outcome.rerankers, document["systems"][1:], strict=True):
        reads = set(system.languages)
        if not reads or "multilingual" in reads or set(outcome.languages) <= reads:
            continue
        change = row["versus_first_stage"][document["primary"]]
        lift = change["ci95"][0] > 0
        outcome_here = "it lifts" if lift else "it does not help:"
        return (
            f"{system.key} reads {_named(system.languages)}, this corpus is in {here} ({source}), and {outcome_here} {document['primary']} "
            f"{_shown(change)}. Use a multilingual reranker (v2-m3)"
            + (" and see whether it lifts more." if lift else ".")
        )
    return None


def _named(languages: Sequence[str]) -> str:
    *most, last = (NAMES.get(language, language) for language in languages)
    return f"{', '.join(most)} and {last}" if most else last


def _small_corpus(document: Document, outcome: Outcome) -> str | None:
    if outcome.passage_count >= SMALL_CORPUS:
        return None
    return (
        f"The corpus has {outcome.passage_count} passages: under {SMALL_CORPUS} a reranker seldom pays. "
        f"Top {outcome.top_k} is {min(1, outcome.top_k / outcome.passage_count):.0%} of it; giving the answer step more passages may do."
    )


def _recall_first(document: Document, outcome: Outcome) -> str | None:
    bar = max(document["ceiling_bars"][1:], key=lambda bar: bar["achieved"])
    if bar["unreachable"] < MUCH or bar["unreachable"] <= bar["recoverable"]:
        return None
    return (
        f"Fix recall first: {bar['unreachable']:.0%} of {bar['metric']} is out of reach because the gold is not among the "
        f"{outcome.top_k} candidates; a perfect reranker would add {bar['recoverable']:.0%}. "
        "Raise top_k, change the embedder, or split passages otherwise."
    )


def _hurts(document: Document, outcome: Outcome) -> str | None:
    best, change = _change(document)
    if change["ci95"][1] >= 0:
        return None
    return f"Leave the reranker out: {best['key']} lowers {document['primary']} by {_shown(change)}."


def _within_noise(document: Document, outcome: Outcome) -> str | None:
    best, change = _change(document)
    if not _noise(change):
        return None
    return (
        f"The lift is within noise with n={document['queries']}: {best['key']} changes {document['primary']} by {_shown(change)}; "
        f"this many queries resolve {change['resolvable']:.3f}. Judge more queries, or leave the reranker out."
    )


def _few_queries(document: Document, outcome: Outcome) -> str | None:
    n = document["queries"]
    return (
        f"Only {n} judged {'query' if n == 1 else 'queries'}: whatever is seen here may be chance."
        if n < FEW_QUERIES
        else None
    )


def _keep(document: Document, outcome: Outcome) -> str | None:
    best, change = _change(document)
    if change["ci95"][0] <= 0:
        return None
    spent = best["latency_ms"]["p50"], document["systems"][0]["latency_ms"]["p50"]
    cost = f", for {spent[0] - spent[1]:,.0f} ms a query" if None not in spent else ""
    return f"Keep {best['key']}: {document['primary']} {_shown(change)} against the first stage{cost}."


def _shallower(document: Document, outcome: Outcome) -> str | None:
    cheapest = next(point for point in document["frontier"] if point["cheapest"])
    full = [p for p in document["frontier"] if p["system"] == cheapest["system"]][-1]
    if not cheapest["depth"] or cheapest["depth"] > MOST_OF_IT * full["depth"]:
        return None
    saved = full["latency_ms"] is not None and full["latency_ms"] - cheapest["latency_ms"]
    gain = f" and save {saved:,.0f} ms a query" if saved else ""
    return f"Rerank {cheapest['depth']} of {full['depth']} with {cheapest['system']}{gain}: {document['queries']} queries cannot tell its {document['primary']} from the best."


def _larger(document: Document, outcome: Outcome) -> str | None:
    best, _ = _change(document)
    bar = next(bar for bar in document["ceiling_bars"] if bar["system"] == best["key"])
    if bar["recoverable"] < MUCH or best["parameters"] > 500_000_000:
        return None
    return (
        f"Try a larger reranker: a perfect one would still add {bar['recoverable']:.0%} to {bar['metric']}, and {best['key']} "
        f"is the small end ({best['parameters'] / 1e6:,.0f}M parameters)."
    )


RULES = (
    Rule("few_queries", "queries", "with 25 queries a conclusion often turns on other queries (Voorhees & Buckley, SIGIR 2002)", _few_queries),
    Rule("other_language", "languages of model and corpus; versus_first_stage", "the models' cards, and the lift measured here", _other_language),
    Rule("small_corpus", "passages", "what fits a prompt needs no retrieval (Anthropic, Contextual Retrieval, 2024); 200 is this project's line", _small_corpus),
    Rule("recall_first", "ceiling_bars.unreachable and .recoverable", "a reranker never changes membership, so recall@top_k is its ceiling", _recall_first),
    Rule("hurts", "versus_first_stage ci95, below 0", "paired bootstrap over these queries", _hurts),
    Rule("within_noise", "versus_first_stage ci95, holding 0", "paired bootstrap over these queries", _within_noise),
    Rule("keep", "versus_first_stage ci95, above 0; latency_ms", "paired bootstrap over these queries", _keep),
    Rule("shallower", "frontier.cheapest", "the depth sweep of this run", _shallower),
    Rule("larger", "ceiling_bars.recoverable", "what is left between this reranker and a perfect one", _larger),
)  # fmt: skip

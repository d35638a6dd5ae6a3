"""What of a corpus can be evaluated: the queries of a split that have gold, and what to know of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus, Qrels, Query, Reranker

_ENGLISH = "the of and to a in is that for it was with as on are by this be from at or an which what how"
WORDS = frozenset(_ENGLISH.split())
ENGLISH_SHARE = 0.12  # of all words are these; measured: English 28-35 %, German 3 %, Spanish 2 %
_SAMPLE = 200  # passages, and as many queries, looked at for the language
_LOOKED_AT = 2000  # gold passages whose tokens are counted, at the most


@dataclass(frozen=True)
class EvalSet:
    """The queries of one split that have gold, and how many had to be left out."""

    split: str
    queries: tuple[Query, ...]
    qrels: Qrels
    unjudged: int  # in the corpus, but the split does not name them
    without_gold: int  # judged, and nothing was found relevant
    unknown_gold: int  # gold ids that the corpus does not hold; they count as unreachable
    repeated: int  # queries whose text an earlier query has


def eval_set(corpus: Corpus, split: str = "test") -> EvalSet:
    """What can be evaluated. Raises CorpusError where the split is not there or judges nothing relevant."""
    if not corpus.splits:
        raise CorpusError(
            f"{corpus.name} has no qrels, so there is nothing to evaluate against; add qrels/{split}.tsv"
        )
    if split not in corpus.splits:
        raise CorpusError(f'{corpus.name} has no split "{split[:40]}"; there are {", ".join(corpus.splits)}')
    qrels = corpus.splits[split]
    judged = [query for query in corpus.queries if qrels.get(query.query_id)]
    queries = tuple(q for q in judged if any(grade > 0 for grade in qrels[q.query_id].values()))
    if not queries:
        found = f"judges {len(judged)} queries and finds nothing relevant" if judged else "is empty"
        raise CorpusError(f"{corpus.name}: the split {split} {found}; at least one grade above 0 is needed")
    gold = {pid for q in queries for pid, grade in qrels[q.query_id].items() if grade > 0}
    texts = Counter(query.text.strip() for query in queries)
    return EvalSet(
        split, queries, {q.query_id: qrels[q.query_id] for q in queries}, len(corpus.queries) - len(judged),
        len(judged) - len(queries), len(gold - set(corpus.passage_by_id)), len(queries) - len(texts),
    )  # fmt: skip


def languages(corpus: Corpus) -> tuple[tuple[str, ...], Literal["card", "text", ""]]:
    """The corpus's languages and who says so: its card, else its own words; ((), "") where neither does."""
    if corpus.card.language:
        return tuple(code.lower().split("-")[0] for code in corpus.card.language), "card"
    texts = [*(p.text for p in corpus.passages[:_SAMPLE]), *(q.text for q in corpus.queries[:_SAMPLE])]
    found = guess_language(texts)
    return ((found,), "text") if found else ((), "")


def guess_language(texts: Iterable[str]) -> str:
    """The code "en", "zh" (or another language written without spaces), "other", or "" where there are too few words."""
    words: list[str] = []
    ideographs = letters = 0
    for text in texts:
        words += re.findall(r"[^\W\d_]+", text.lower())
        letters += sum(map(str.isalpha, text))
        ideographs += sum("\u3040" <= letter <= "\u9fff" for letter in text)
    if letters and ideographs / letters > 0.3:
        return "zh"
    if len(words) < 50:
        return ""
    return "en" if sum(word in WORDS for word in words) / len(words) >= ENGLISH_SHARE else "other"


def cut_gold(corpus: Corpus, chosen: EvalSet, reranker: Reranker) -> int:
    """How many gold passages are longer than the model reads beside (one of) their queries."""
    window = reranker.spec.max_tokens
    text = {query.query_id: query.text for query in chosen.queries}
    asked = {pid: qid for qid, grades in chosen.qrels.items() for pid, grade in grades.items() if grade > 0}
    known = ((corpus.passage_by_id.get(pid), text[qid]) for pid, qid in list(asked.items())[:_LOOKED_AT])
    # A token has two bytes or more, nearly always: shorter passages need no tokenizer.
    long = [
        (query, p) for p, query in known if p and len(p.full_text.encode("utf-8", "replace")) > 2 * window
    ]
    return sum(reranker.readings(query, [passage])[0].truncated > 0 for query, passage in long)

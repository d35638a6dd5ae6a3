"""Select the queries of a split that have gold; count what is left out and what the models do not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from rag_inspect.errors import CorpusError, InputError
from rag_inspect.evaluation.systems import list_keys, name_file
from rag_inspect.options import GOLD_GRADE, SPLIT, EvalOptions, check_pairs
from rag_inspect.types import Corpus, Passage, Qrels, Query, Reading
from rag_inspect.words import format_count

_LOOKED_AT = 2000  # at most this many pairs of query and gold are checked for truncation


@dataclass(frozen=True)
class EvalSet:
    """The queries of one split that have gold, and how many were left out."""

    split: str
    gold_grade: int  # the lowest grade of gold
    queries: tuple[Query, ...]
    qrels: Qrels
    unjudged: int  # queries that the split does not judge
    without_gold: int  # judged queries with no gold passage
    unknown_gold: int  # gold ids that are not in the corpus; they count as unreachable
    repeated: int  # queries with the same text as an earlier query
    twin_gold: int  # gold passages with a duplicate that is not gold

    def list_gold(self, query_id: str) -> list[str]:
        """List the gold passages of a query, in the order of the qrels."""
        return [pid for pid, grade in self.qrels[query_id].items() if grade >= self.gold_grade]


def select_eval_set(corpus: Corpus, split: str = SPLIT, gold_grade: int = GOLD_GRADE) -> EvalSet:
    """Select the queries of a split that have gold. Raises CorpusError if the split is unknown or has no gold."""
    if not corpus.splits:
        raise CorpusError(
            f"{corpus.name} has no qrels, so there is nothing to evaluate against; add qrels/{split}.tsv"
            f"{_recall_notes(corpus)}"
        )
    if not isinstance(split, str) or split not in corpus.splits:
        raise CorpusError(
            f'{corpus.name} has no split "{str(split)[:40]}"; choose one of {", ".join(corpus.splits)}'
        )
    qrels = corpus.splits[split]
    if not corpus.queries:
        raise CorpusError(
            f"{corpus.name} has no queries, so there is nothing to ask; add queries.jsonl{_recall_notes(corpus)}"
        )
    _check_queries(corpus, split)
    judged = [query for query in corpus.queries if qrels.get(query.query_id)]
    queries = tuple(q for q in judged if _list_gold(qrels[q.query_id], gold_grade))
    if not queries:
        found = f"judges {format_count(len(judged))} and finds no gold" if judged else "is empty"
        if qrels and not judged:
            found = f'judges none of the corpus\'s queries (its first is "{next(iter(qrels))[:80]}")'
        raise CorpusError(
            f"{corpus.name}: the split {split} {found}; {_ask_for_gold(judged, qrels, gold_grade)}"
        )
    golds = [_list_gold(qrels[query.query_id], gold_grade) for query in queries]
    texts = Counter(query.text.strip() for query in queries)
    return EvalSet(
        split, gold_grade, queries, {q.query_id: qrels[q.query_id] for q in queries}, len(corpus.queries) - len(judged),
        len(judged) - len(queries), len(frozenset().union(*golds) - set(corpus.passage_by_id)), len(queries) - len(texts),
        len(_find_twins(corpus, golds)),
    )  # fmt: skip


def _list_gold(grades: Mapping[str, int], gold_grade: int) -> frozenset[str]:
    return frozenset(passage_id for passage_id, grade in grades.items() if grade >= gold_grade)


def _ask_for_gold(judged: Sequence[Query], qrels: Qrels, gold_grade: int) -> str:
    highest = max((grade for query in judged for grade in qrels[query.query_id].values()), default=0)
    if 0 < highest < gold_grade:
        return f"gold starts at grade {gold_grade}, and its highest grade is {highest}: lower the gold grade"
    return "at least one grade above 0 is needed"


def check_evaluation(corpus: Corpus, options: EvalOptions, *, public: bool) -> None:
    """Raise CorpusError if there is nothing to evaluate, InputError if two systems would have one file, or, in public
    mode, if it is too much.
    """
    files: dict[str, str] = {}
    for key in list_keys(options.first_stages, options.rerankers):
        if (other := files.setdefault(name_file(key), key)) != key:
            raise InputError(
                f"{other} and {key} would have the same file; give one of their files another name"
            )
    queries = select_eval_set(corpus, options.split, options.gold_grade).queries
    if public:
        check_pairs(options, len(queries), len(corpus.passages))


def _check_queries(corpus: Corpus, split: str) -> None:
    """Raise CorpusError if the split judges a query that cannot be read, or one that may stand in a row that cannot."""
    lost = [query_id for query_id in corpus.splits[split] if query_id not in corpus.query_by_id]
    for query_id, fault in corpus.broken_queries.items() if lost else ():
        if query_id in lost or query_id == fault:
            asked = query_id if query_id in lost else lost[0]
            raise CorpusError(
                f'{fault} (the split {split} judges the query "{asked[:80]}", which is not there)'
            )


def _recall_notes(corpus: Corpus) -> str:
    """What reading the corpus left out may be what is missing."""
    return "".join(f". {note.rstrip('.')}" for note in corpus.notes)


def _find_twins(corpus: Corpus, golds: Iterable[frozenset[str]]) -> set[str]:
    """Find the gold passages whose text is also that of a passage that is not gold for the query."""
    same: dict[str, list[str]] = {}
    for passage in corpus.passages:
        same.setdefault(passage.full_text, []).append(passage.passage_id)
    twins = {pid: ids for ids in same.values() if len(ids) > 1 for pid in ids}
    return {
        pid for gold in golds for pid in twins.keys() & gold if any(other not in gold for other in twins[pid])
    }


def count_unread(corpus: Corpus, chosen: EvalSet, model: _Reads, key: str, window: int) -> dict[str, int]:
    """Count the gold passages and queries that a model truncates, and the queries of which it knows no token.

    A gold passage is read with one of its queries. Empty if the model does not tell. `window` is in tokens.
    """
    cut_gold, cut_queries, unread = set(), set(), set()
    for query, passage in islice(_pair_gold(corpus, chosen), _LOOKED_AT):
        # Tokens have almost always two bytes or more, and every model knows ASCII: skip the tokenizer.
        size = len(f"{query.text}{passage.full_text}".encode("utf-8", "replace"))
        if size <= 2 * window and re.search("[A-Za-z0-9]", query.text):
            continue
        for reading in model.readings(query.text, [passage]) or ():
            cut_gold |= {passage.passage_id} if reading.truncated else set()
            if reading.query:
                cut_queries |= {query.query_id} if reading.query.truncated else set()
                unread |= {query.query_id} if reading.query.means_nothing else set()
    return {
        f"cut_gold:{key}": len(cut_gold),
        f"cut_queries:{key}": len(cut_queries),
        f"unread_queries:{key}": len(unread),
    }


class _Reads(Protocol):
    """A first stage or a reranker."""

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None: ...


def _pair_gold(corpus: Corpus, chosen: EvalSet) -> Iterator[tuple[Query, Passage]]:
    """Yield pairs that have each query with gold in the corpus, and each gold passage, at least once."""
    asked, paired = set(), set()
    for query in chosen.queries:
        for passage_id in chosen.list_gold(query.query_id):
            passage = corpus.passage_by_id.get(passage_id)
            if passage and not (query.query_id in asked and passage_id in paired):
                asked.add(query.query_id)
                paired.add(passage_id)
                yield query, passage

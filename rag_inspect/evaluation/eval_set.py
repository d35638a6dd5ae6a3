"""Select the queries of a split that have gold; count what is left out; find the languages of a corpus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus, Passage, Qrels, Query, Reading
from rag_inspect.words import format_count

_ENGLISH = "the of and to a in is that for it was with as on are by this be from at or an which what how"
WORDS = frozenset(_ENGLISH.split())
_OTHERS = """der und ist nicht ein eine zu den mit von für auf le la les des et est une dans pour que qui du au el los
las y en de un una por para del se il di che non della sono het een van niet op zijn uma não em da"""
OTHER_WORDS = frozenset(_OTHERS.split())  # German, French, Spanish, Italian, Dutch, Portuguese
ENGLISH_SHARE = (
    0.12  # lowest share of these words in English text; measured: English 28-36 %, German 3 %, Spanish 2 %
)
OTHER_SHARE = (
    0.08  # the same for text in these languages; measured: German 16 %, Spanish 35 %, English 0.3 % at most
)
FOREIGN_SHARE = 0.3  # lowest share of non-Latin letters in text of another script
KANA_SHARE = 0.1  # in Japanese text a third or more is kana, in Chinese text almost nothing
NAMES = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese", "nl": "Dutch",
    "pl": "Polish", "zh": "Chinese", "ja": "Japanese", "other": "another language",
}  # fmt: skip
THREE_LETTERS = {
    "eng": "en", "deu": "de", "ger": "de", "spa": "es", "fra": "fr", "fre": "fr", "ita": "it", "por": "pt", "nld": "nl",
    "dut": "nl", "pol": "pl", "zho": "zh", "chi": "zh", "jpn": "ja",
}  # fmt: skip
_SAMPLE = 200  # passages, and this many queries, are read to guess the language
_LOOKED_AT = 2000  # at most this many pairs of query and gold are checked for truncation


@dataclass(frozen=True)
class EvalSet:
    """The queries of one split that have gold, and how many were left out."""

    split: str
    queries: tuple[Query, ...]
    qrels: Qrels
    unjudged: int  # queries that the split does not judge
    without_gold: int  # judged queries with no relevant passage
    unknown_gold: int  # gold ids that are not in the corpus; they count as unreachable
    repeated: int  # queries with the same text as an earlier query
    twin_gold: int  # gold passages with a duplicate that is not gold


def select_eval_set(corpus: Corpus, split: str = "test") -> EvalSet:
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
    queries = tuple(q for q in judged if any(grade > 0 for grade in qrels[q.query_id].values()))
    if not queries:
        found = f"judges {format_count(len(judged))} and finds nothing relevant" if judged else "is empty"
        if qrels and not judged:
            found = f'judges none of the corpus\'s queries (its first is "{next(iter(qrels))[:80]}")'
        raise CorpusError(f"{corpus.name}: the split {split} {found}; at least one grade above 0 is needed")
    gold = {pid for q in queries for pid, grade in qrels[q.query_id].items() if grade > 0}
    texts = Counter(query.text.strip() for query in queries)
    return EvalSet(
        split, queries, {q.query_id: qrels[q.query_id] for q in queries}, len(corpus.queries) - len(judged),
        len(judged) - len(queries), len(gold - set(corpus.passage_by_id)), len(queries) - len(texts),
        len(_find_twins(corpus, [qrels[query.query_id] for query in queries])),
    )  # fmt: skip


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


def _find_twins(corpus: Corpus, judged: Iterable[Mapping[str, int]]) -> set[str]:
    """Find the gold passages whose text is also that of a passage that is not gold for the query."""
    same: dict[str, list[str]] = {}
    for passage in corpus.passages:
        same.setdefault(passage.full_text, []).append(passage.passage_id)
    twins = {pid: ids for ids in same.values() if len(ids) > 1 for pid in ids}
    return {
        pid
        for grades in judged
        for pid in twins.keys() & {pid for pid, grade in grades.items() if grade > 0}
        if any(grades.get(other, 0) <= 0 for other in twins[pid])
    }


def find_languages(corpus: Corpus) -> tuple[tuple[str, ...], Literal["card", "text", ""]]:
    """Return the corpus's languages and their source: its card, else a guess from its text; else ((), "")."""
    codes = tuple(dict.fromkeys(filter(None, map(language_code, corpus.card.language))))
    if codes:
        return codes, "card"
    texts = [*(p.text for p in corpus.passages[:_SAMPLE]), *(q.text for q in corpus.queries[:_SAMPLE])]
    found = guess_language(texts)
    return ((found,), "text") if found else ((), "")


def language_code(written: str) -> str:
    """Return the two-letter code: `en` for en, EN-gb, en_US, eng or English; "" if the language is unknown."""
    word = re.split("[-_]", written.strip().lower())[0]
    known = {name.lower(): code for code, name in NAMES.items()} | THREE_LETTERS
    return known.get(word, word if re.fullmatch("[a-z]{2,3}|multilingual", word) else "")


def guess_language(texts: Iterable[str]) -> str:
    """Guess "en", "zh", "ja" or "other"; "" if the text is too short or unclear."""
    words: list[str] = []
    kana = ideographs = foreign = letters = 0
    for text in texts:
        words += re.findall(r"[^\W\d_]+", text.lower())
        letters += sum(map(str.isalpha, text))
        kana += sum("\u3040" <= letter <= "\u30ff" for letter in text)
        ideographs += sum("\u3400" <= letter <= "\u9fff" for letter in text)
        foreign += sum(
            letter > "\u024f" and letter.isalpha() for letter in text
        )  # after the Latin blocks of Unicode
    if letters and (kana + ideographs) / letters > FOREIGN_SHARE:
        return "ja" if kana / (kana + ideographs) > KANA_SHARE else "zh"
    if letters and foreign / letters > FOREIGN_SHARE:
        return "other"
    if len(words) < 50:
        return ""
    if sum(word in WORDS for word in words) / len(words) >= ENGLISH_SHARE:
        return "en"
    return "other" if sum(word in OTHER_WORDS for word in words) / len(words) >= OTHER_SHARE else ""


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
        for passage_id, grade in chosen.qrels[query.query_id].items():
            passage = corpus.passage_by_id.get(passage_id)
            if passage and grade > 0 and not (query.query_id in asked and passage_id in paired):
                asked.add(query.query_id)
                paired.add(passage_id)
                yield query, passage

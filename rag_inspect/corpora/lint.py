"""The linter: it finds what the reader accepts but a search engineer would not trust.

An error is a row that the reader refuses; a warning makes the metrics wrong; a note is worth knowing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from rag_inspect.corpora import find_format, read_path
from rag_inspect.corpora.faults import Faults
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.corpora.notes import describe_strays
from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus, Passage, Query
from rag_inspect.words import format_count

SMALL_CORPUS = 200  # passages; in a smaller corpus, top_k is a large share of it
SMALL_EVAL_SET = 50  # judged queries; in a smaller set, one query moves recall@5 by 2 points or more
LONG_PASSAGE = 380  # words, about 512 tokens of English
RUN_OF_WORDS = 5
NEAR_DUPLICATE = 0.3  # share of a passage's 8-grams that one other passage has too
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the of to in on for and or is are was be what which how do does did can i my we it with that this from "
        "at by as if not when who why where me you your our there than into about",
    )
)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True)
class Finding:
    """One finding about one place in a corpus: a file, or a line and the id on it."""

    level: Literal["error", "warning", "note"]
    place: str
    message: str


def lint(corpus: Corpus) -> list[Finding]:
    """Check a corpus that was read without an error; warnings first."""
    rules = (
        _check_reading,
        _check_strays,
        _check_card,
        _check_duplicates,
        _check_near_duplicates,
        _check_gold,
        _check_leaks,
        _check_lengths,
        _check_languages,
        _check_sizes,
    )
    found = sorted(
        (finding for rule in rules for finding in rule(corpus)), key=lambda f: f.level != "warning"
    )
    places = _find_line_numbers(corpus) if found else {}
    return [replace(finding, place=places.get(finding.place, finding.place)) for finding in found]


def lint_named(name: str, library: CorpusLibrary) -> list[Finding]:
    """Check a corpus by name or folder: every broken row is an error, and the other rows are checked all the same.

    Raises CorpusError for an unknown name.
    """
    path, faults = library.find(name), Faults()
    try:
        corpus = read_path(path, faults)
        found, broken = lint(corpus), list(corpus.broken_queries.values())
    except CorpusError as fault:
        faults(fault)
        found, broken = [], []
    return [Finding("error", name, message) for message in (*faults, *broken)] + found


def _find_line_numbers(corpus: Corpus) -> dict[str, str]:
    """Return `file:line id` of each query and passage, by id; {} for a corpus without files."""
    if corpus.path is None:
        return {}
    found = find_format(corpus.path)
    return found.line_numbers(corpus.path) if found else {}


def _check_reading(corpus: Corpus) -> Iterator[Finding]:
    for note in corpus.notes:
        yield Finding("warning", corpus.name, note)


def _check_strays(corpus: Corpus) -> Iterator[Finding]:
    for split in corpus.splits:
        if split not in corpus.broken_splits:
            for message in describe_strays(corpus, split):
                yield Finding("warning", f"qrels of {split}", message)


def _check_card(corpus: Corpus) -> Iterator[Finding]:
    missing = [name for name in ("description", "language", "licence") if not getattr(corpus.card, name)]
    if missing:
        yield Finding("note", "corpus.yaml", f"has no {', '.join(missing)}")


def _check_duplicates(corpus: Corpus) -> Iterator[Finding]:
    passages = defaultdict(list)
    for passage in corpus.passages:
        passages[" ".join(passage.full_text.split()).lower()].append(passage.passage_id)
    for ids in passages.values():
        if len(ids) > 1:
            yield Finding(
                "warning",
                ids[0],
                f"has the same text as {', '.join(ids[1:4])}: if one is gold, the other should be too",
            )
    texts = Counter(query.text.strip().lower() for query in corpus.queries)
    for query in corpus.queries:
        if texts[query.text.strip().lower()] > 1:
            yield Finding(
                "warning", query.query_id, "has the text of another query, so it counts more than once"
            )


def _check_near_duplicates(corpus: Corpus) -> Iterator[Finding]:
    grams = {passage.passage_id: _make_grams(passage) for passage in corpus.passages}
    holders = defaultdict(list)
    for passage_id, found in grams.items():
        for gram in found:
            holders[gram].append(passage_id)
    for passage_id, found in grams.items():
        shared = Counter(other for gram in found for other in holders[gram][:20] if other != passage_id)
        for other, count in shared.most_common(1):
            if count / len(found) > NEAR_DUPLICATE and grams[other] != found:
                share = f"{count / len(found):.0%}"
                yield Finding(
                    "warning", passage_id, f'shares {share} of its runs of eight words with "{other}"'
                )


def _check_gold(corpus: Corpus) -> Iterator[Finding]:
    judged = [query for query in corpus.queries if query.query_id in corpus.qrels]
    for query in judged:
        if not corpus.gold(query.query_id):
            yield Finding(
                "warning", query.query_id, "has judgements, but none above 0: no passage can count as found"
            )
    if corpus.splits and len(judged) < len(corpus.queries):
        yield Finding(
            "note", "queries.jsonl", f"{format_count(len(corpus.queries) - len(judged))} without judgements"
        )


def _check_leaks(corpus: Corpus) -> Iterator[Finding]:
    for query, passage in _pair_gold(corpus):
        asked, text = _split_words(query.text), f" {' '.join(_split_words(passage.full_text))} "
        runs = (" ".join(asked[at : at + RUN_OF_WORDS]) for at in range(len(asked) - RUN_OF_WORDS + 1))
        run = next((run for run in runs if f" {run} " in text), None)
        if run:
            yield Finding(
                "warning", query.query_id, f'repeats its gold "{passage.passage_id}" word for word: "{run}"'
            )
            continue
        content = [word for word in asked if word not in STOP_WORDS]
        same = sum(f" {word} " in text for word in content)
        if len(content) > 3 and same / len(content) > 0.85 and query.metadata.get("hard") != "easy":
            share = f"{same} of its {len(content)} content words"
            yield Finding(
                "warning", query.query_id, f'has {share} in its gold "{passage.passage_id}": too easy to find'
            )


def _check_lengths(corpus: Corpus) -> Iterator[Finding]:
    # A Chinese or Japanese character is about one token; in other scripts a word is.
    lengths = {
        p.passage_id: len(_split_words(p.full_text)) + len(_CJK.findall(p.full_text)) for p in corpus.passages
    }
    long = [passage_id for passage_id, length in lengths.items() if length > LONG_PASSAGE]
    if long:
        yield Finding(
            "note",
            "corpus.jsonl",
            f"{format_count(len(long), 'passage', 'passages')} may be longer than 512 tokens; the first: {long[0]}",
        )
    for passage in corpus.passages:
        if not passage.text.strip():
            yield Finding("warning", passage.passage_id, "has a title and no text")


def _check_languages(corpus: Corpus) -> Iterator[Finding]:
    for passage in corpus.passages:
        language = passage.metadata.get("language")
        if language and corpus.card.language and language not in corpus.card.language:
            yield Finding(
                "warning", passage.passage_id, f'is in "{language}", which corpus.yaml does not list'
            )


def _check_sizes(corpus: Corpus) -> Iterator[Finding]:
    if len(corpus.passages) < SMALL_CORPUS:
        yield Finding(
            "note",
            "corpus.jsonl",
            f"{format_count(len(corpus.passages), 'passage', 'passages')}: under {SMALL_CORPUS} a reranker seldom pays",
        )
    judged = sum(bool(corpus.gold(query.query_id)) for query in corpus.queries)
    if 0 < judged < SMALL_EVAL_SET:
        yield Finding(
            "note",
            "qrels",
            f"{format_count(judged, 'judged query', 'judged queries')}: enough for large differences only; {SMALL_EVAL_SET} or more are better",
        )


def _pair_gold(corpus: Corpus) -> Iterator[tuple[Query, Passage]]:
    for query in corpus.queries:
        for passage_id in sorted(corpus.gold(query.query_id)):
            if passage_id in corpus.passage_by_id:
                yield query, corpus.passage_by_id[passage_id]


def _split_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _make_grams(passage: Passage) -> frozenset[tuple[str, ...]]:
    words = _split_words(passage.text)
    return frozenset(tuple(words[at : at + 8]) for at in range(len(words) - 7))

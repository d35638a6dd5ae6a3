"""replay.json: a whole evaluation that reopens without a model. One from someone else is untrusted, and is checked."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from rag_inspect.errors import InputError
from rag_inspect.evaluation.outcome import Latency, Outcome, System, document_of, most_gold
from rag_inspect.metrics import MAX_CUTOFFS, metrics_at, parse_cutoffs
from rag_inspect.types import Query

KIND, VERSION = "rag-inspect replay", 1
MAX_BYTES = 128 << 20
MAX_QUERIES, MAX_DEPTH, MAX_RERANKERS, MAX_TEXT, MAX_ID = 200_000, 200, 16, 200_000, 1_000
MAX_PARTS = 4_000_000  # lists and objects: "[]," is 3 bytes of a file and 70 of memory
MAX_CELLS = 8_000_000  # numbers in a table of the assessment: what a full replay of MAX_BYTES needs, and no short one may ask for
_LARGEST_GRADE = 1_000
_CARRIED_TEXT = 16_000_000  # characters of passages that a replay brings along; past that, ids only
_NAME = re.compile(r"[^/\\\x00-\x1f]{1,200}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?([+-]\d\d:\d\d|Z)?)?", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def to_replay(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON: candidates as places in `passage_ids`, cosines and raw logits in the same order."""
    carried = (
        outcome.passages
        if sum(len(title) + len(text) for title, text in outcome.passages.values()) <= _CARRIED_TEXT
        else {}
    )
    return {
        "kind": KIND,
        "version": VERSION,
        "corpus": {
            "name": re.sub(r"[/\\\x00-\x1f]", "_", outcome.corpus)[:200] or "corpus",
            "fingerprint": outcome.corpus_fingerprint, "passages": outcome.passage_count,
            "languages": list(outcome.languages), "language_source": outcome.language_source,
        },
        "split": outcome.split,
        "embedder": document_of(outcome.embedder),
        "rerankers": [document_of(system) for system in outcome.rerankers],
        "settings": {"top_k": outcome.top_k, "top_n": outcome.top_n, "cutoffs": list(outcome.cutoffs)},
        "created": outcome.created,
        "versions": dict(outcome.versions),
        "notes": list(outcome.notes),
        "counts": dict(outcome.counts),
        "latency": {key: _latency_document(latency) for key, latency in outcome.latency.items()},
        "passage_ids": list(outcome.passage_ids),
        "passages": {pid: {"title": title, "text": text} for pid, (title, text) in carried.items()},
        "queries": [_query_document(outcome, row) for row in range(len(outcome.queries))],
    }  # fmt: skip


def _latency_document(latency: Latency) -> dict[str, Any]:
    return {
        "depth_ms": [round(ms, 4) for ms in latency.depth_ms], "p50": latency.p50, "p95": latency.p95,
        "queries": latency.queries, "source": latency.source,
    }  # fmt: skip


def _query_document(outcome: Outcome, row: int) -> dict[str, Any]:
    query, there = outcome.queries[row], outcome.places[row] >= 0
    return {
        "query_id": query.query_id,
        "text": query.text,
        "qrels": dict(outcome.qrels[query.query_id]),
        "candidates": outcome.places[row][there].tolist(),
        "cosines": outcome.cosines[row][there].tolist(),
        "logits": {key: logits[row][there].tolist() for key, logits in outcome.logits.items()},
    }


def read_replay(source: Path | str | bytes) -> Outcome:
    """The outcome in a replay: a file's path, or its content as bytes. InputError says where it is not one."""
    # Of a file the name only: where an upload lies is the server's affair.
    name = ("" if isinstance(source, bytes) else Path(source).name) or "the replay"
    try:
        if not isinstance(source, bytes):
            with Path(source).open("rb") as file:
                source = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read ({error.strerror}); give the replay.json that eval --out wrote"
        ) from error
    if len(source) > MAX_BYTES:
        raise InputError(f"{name} has more than {MAX_BYTES >> 20} MB; a replay of this version has less")
    if source.count(b"[") + source.count(b"{") > MAX_PARTS:
        raise InputError(
            f"{name} has more than {MAX_PARTS:,} lists and objects; a replay of this version has less"
        )
    try:
        document = json.loads(source.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not JSON ({str(error)[:120]}); give the replay.json that eval --out wrote"
        ) from error
    return from_replay(document, name)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def from_replay(document: Any, name: str = "the replay") -> Outcome:
    """The outcome of a replay document, every part of it checked."""
    look = _Look(name, "", document)
    if look.at("kind").value != KIND or look.at("version").value != VERSION:
        raise InputError(
            f'{name} is no replay of this version; expected "kind": "{KIND}", "version": {VERSION}'
        )
    settings, corpus = look.at("settings"), look.at("corpus")
    top_k = settings.at("top_k").whole(1, MAX_DEPTH)
    cutoffs = parse_cutoffs([item.whole(1, 1000) for item in settings.at("cutoffs").items(1, MAX_CUTOFFS)])
    embedder, rerankers = (
        _system(look.at("embedder")),
        tuple(_system(item) for item in look.at("rerankers").items(1, MAX_RERANKERS)),
    )
    keys = [system.key for system in (embedder, *rerankers)]
    if len(set(keys)) < len(keys):
        look.at("rerankers").refuse(f"names {keys}", "keys that differ")
    rows = list(look.at("queries").items(1, MAX_QUERIES))
    depth = max(row.at("candidates").length(0, top_k) for row in rows)
    if depth == 0:
        look.at("queries").refuse("has no candidates at all", "at least one")
    cells = len(rows) * len(keys) * max(depth, len(metrics_at(cutoffs)))
    if cells > MAX_CELLS:
        look.at("queries").refuse(
            f"asks for {cells:,} numbers", f"at most {MAX_CELLS:,}, from queries, systems, depth and metrics"
        )
    ids = tuple(item.string(MAX_ID, 1) for item in look.at("passage_ids").items(1, len(rows) * depth))
    known = set(ids)
    if len(known) < len(ids):
        look.at("passage_ids").refuse("repeats an id", "each once")
    arrays = {key: np.full((len(rows), depth), np.nan) for key in keys}
    places = np.full((len(rows), depth), -1, dtype=np.int32)
    queries, qrels = [], {}
    for number, row in enumerate(rows):
        _fill(row, number, places, arrays, embedder.key, len(ids))
        queries.append(Query(row.at("query_id").string(MAX_ID, 1), row.at("text").string(MAX_TEXT, 1)))
        qrels[queries[-1].query_id] = _grades(row.at("qrels"))
    widest = len(rows) * most_gold(qrels.values())
    if widest > MAX_CELLS:
        look.at("queries").refuse(
            f"asks for {widest:,} numbers", f"at most {MAX_CELLS:,}, from queries and the most gold of one"
        )
    if len(qrels) < len(queries):
        look.at("queries").refuse("repeats a query_id", "each once")
    language_source: Any = corpus.at("language_source").one_of(("card", "text", ""))
    return Outcome(
        corpus.at("name").match(_NAME, "a name without slashes"), corpus.at("fingerprint").match(re.compile("[0-9a-f]{64}"), "a sha256"),
        corpus.at("passages").whole(len(ids), 10**9), look.at("split").match(_NAME, "a name without slashes"), embedder, rerankers, top_k,
        settings.at("top_n").whole(1, top_k), cutoffs, tuple(queries), qrels, ids, places, arrays[embedder.key],
        {system.key: arrays[system.key] for system in rerankers},
        {key: _latency(item, depth, len(rows), key == embedder.key) for key, item in look.at("latency").pairs(len(keys)) if key in keys},
        tuple(item.string(50) for item in corpus.at("languages").items(0, 20)), language_source,
        tuple(item.string(1_000) for item in look.at("notes").items(0, 100)), look.at("created").match(_TIME, "a time as 2026-11-25T16:43:00+00:00, or nothing"),
        {key: item.string(100) for key, item in look.at("versions").pairs(50)},
        {key: item.whole(0, 10**12) for key, item in look.at("counts").pairs(50)},
        {key: (item.at("title").string(MAX_TEXT), item.at("text").string(10**7)) for key, item in look.at("passages").pairs(len(ids)) if key in known},
    )  # fmt: skip


def _fill(
    row: _Look, number: int, places: np.ndarray, arrays: Mapping[str, np.ndarray], first: str, known: int
) -> None:
    candidates = [item.whole(0, known - 1) for item in row.at("candidates").items(0, MAX_DEPTH)]
    if len(set(candidates)) < len(candidates):
        row.at("candidates").refuse("names a passage twice", "each once")
    places[number, : len(candidates)] = candidates
    for key, array in arrays.items():
        look = row.at("cosines") if key == first else row.at("logits").at(key)
        most = 1.01 if key == first else 1e6  # a cosine, give or take what rounding does
        scores = [item.number(-most, most) for item in look.items(len(candidates), len(candidates))]
        if key == first and scores != sorted(scores, reverse=True):
            look.refuse("rises", "the highest first, as the candidates are")
        array[number, : len(candidates)] = scores


def _system(look: _Look) -> System:
    return System(
        look.at("key").match(_KEY, "letters, digits, dots and dashes"), look.at("model").string(300), look.at("revision").string(200),
        look.at("parameters").whole(0, 10**13), look.at("max_tokens").whole(0, 10**7),
        tuple(item.string(50) for item in look.at("languages").items(0, 200)),
    )  # fmt: skip


def _grades(look: _Look) -> dict[str, int]:
    grades = {key: item.whole(-_LARGEST_GRADE, _LARGEST_GRADE) for key, item in look.pairs(100_000)}
    if not any(grade > 0 for grade in grades.values()):
        look.refuse("has no grade above 0", "at least one gold passage")
    return grades


def _latency(look: _Look, depth: int, queries: int, first_stage: bool) -> Latency:
    steps = tuple(item.number(0, 1e9) for item in look.at("depth_ms").items(0, depth))
    if len(steps) not in {0, depth} and not (
        first_stage and len(steps) == 1
    ):  # its cost does not grow with depth
        look.at("depth_ms").refuse(f"has {len(steps)} steps", f"none, or one a depth ({depth})")
    if list(steps) != sorted(steps):
        look.at("depth_ms").refuse("falls", "a deeper step to take as long or longer")
    source: Any = look.at("source").one_of(("batches", "sample", "unknown"))
    if source == "unknown":
        if steps or look.at("p50").value is not None or look.at("p95").value is not None:
            look.refuse("is of unknown source and has numbers", "none")
        return Latency()
    p50 = look.at("p50").number(0, 1e9)
    return Latency(steps, p50, look.at("p95").number(p50, 1e9), look.at("queries").whole(1, queries), source)


class _Look:
    """A value in the document and the way to it; each method hands over a checked value or says what was found."""

    __slots__ = ("name", "value", "way")

    def __init__(self, name: str, way: str, value: Any) -> None:
        self.name, self.way, self.value = name, way, value

    def refuse(self, found: str, expected: str) -> NoReturn:
        raise InputError(f"{self.name}: {self.way or 'the document'} {found}; expected {expected}")

    def _be(self, kind: type, expected: str) -> Any:
        if type(self.value) is not kind:
            self.refuse(f"is a {type(self.value).__name__}", expected)
        return self.value

    def at(self, key: str) -> _Look:
        if key not in self._be(dict, "an object"):
            self.refuse(f'has no "{key[:60]}"', "a replay as eval --out writes it")
        return _Look(self.name, f"{self.way}.{key}".strip("."), self.value[key])

    def length(self, least: int, most: int) -> int:
        if not least <= len(self._be(list, "a list")) <= most:
            self.refuse(f"has {len(self.value):,} entries", f"{least:,} to {most:,}")
        return len(self.value)

    def items(self, least: int, most: int) -> Iterator[_Look]:
        self.length(least, most)
        return (_Look(self.name, f"{self.way}[{at}]", value) for at, value in enumerate(self.value))

    def pairs(self, most: int) -> list[tuple[str, _Look]]:
        if len(self._be(dict, "an object")) > most:
            self.refuse(f"has {len(self.value):,} entries", f"at most {most:,}")
        keys = (_Look(self.name, f"a key of {self.way}", key).string(MAX_ID, 1) for key in self.value)
        return [(key, _Look(self.name, f"{self.way}.{key[:60]}", self.value[key])) for key in keys]

    def string(self, most: int, least: int = 0) -> str:
        text: str = self._be(str, "a string")
        if not least <= len(text) <= most:
            self.refuse(f"has {len(text):,} characters", f"{least:,} to {most:,}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self.refuse("has half a surrogate pair", "valid Unicode")
        return text

    def match(self, pattern: re.Pattern[str], expected: str) -> str:
        text = self.string(MAX_ID)
        return text if pattern.fullmatch(text) else self.refuse(f"is {text[:40]!r}", expected)

    def one_of(self, words: tuple[str, ...]) -> str:
        text = self.string(MAX_ID)
        return text if text in words else self.refuse(f"is {text[:40]!r}", f"one of {words}")

    def whole(self, least: int, most: int) -> int:
        number: int = self._be(int, "a whole number")
        return (
            number
            if least <= number <= most
            else self.refuse(f"is {number if abs(number) < 10**18 else 'huge'}", f"{least:,} to {most:,}")
        )

    def number(self, least: float = -1e6, most: float = 1e6) -> float:
        if type(self.value) is int and abs(self.value) <= 10**18:
            return _Look(self.name, self.way, float(self.value)).number(least, most)
        number: float = self._be(float, "a number")
        return (
            number
            if math.isfinite(number) and least <= number <= most
            else self.refuse(f"is {number}", f"a number from {least:,g} to {most:,g}")
        )

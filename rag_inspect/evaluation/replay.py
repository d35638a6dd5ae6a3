"""Read and write replay.json, an evaluation that opens without a model. A replay is untrusted, so all of it is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from rag_inspect.errors import InputError
from rag_inspect.evaluation.outcome import (
    MAX_CARRIED,
    FirstStageSystem,
    Latency,
    Outcome,
    count_most_gold,
    write_system,
)
from rag_inspect.evaluation.replay_errors import refuse
from rag_inspect.metrics import metrics_at, parse_cutoffs
from rag_inspect.types import Query
from rag_inspect.words import describe_value

if TYPE_CHECKING:  # load pydantic only when a replay is read
    from rag_inspect.evaluation.replay_models import LatencyPart, Replay1, Replay2

KIND, VERSION = "rag-inspect replay", 2
MAX_BYTES = 128 << 20
MAX_PARTS = 4_000_000  # lists and objects: "[]," takes 3 bytes in a file and 70 in memory
MAX_CELLS = 8_000_000  # numbers in one table of the assessment: enough for a replay of MAX_BYTES; stops a short replay that asks for more
_LARGEST: Mapping[str, float] = {
    "cosine": 1.01
}  # score name -> largest absolute score, with room for rounding
_CARRIED_TEXT = 16_000_000  # characters of passage text in a replay; if there are more, it has only the ids


def to_replay(outcome: Outcome) -> dict[str, Any]:
    """Write the outcome as JSON: candidates as indices into `passage_ids`, raw scores of both stages in their order."""
    characters = sum(len(title) + len(text) for title, text in outcome.passages.values())
    light = characters <= _CARRIED_TEXT and len(outcome.passages) <= MAX_CARRIED
    carried = outcome.passages if light else {}
    return {
        "kind": KIND,
        "version": VERSION,
        "corpus": {
            "name": re.sub(r"[/\\\x00-\x1f]", "_", outcome.corpus)[:200] or "corpus",
            "fingerprint": outcome.corpus_fingerprint, "passages": outcome.passage_count,
            "languages": list(outcome.languages), "language_source": outcome.language_source,
        },
        "split": outcome.split,
        "first_stage": _first_stage_document(outcome.first_stage),
        "rerankers": [write_system(system) for system in outcome.rerankers],
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


def _first_stage_document(stage: FirstStageSystem) -> dict[str, Any]:
    embedder = stage.embedder and write_system(stage.embedder)
    return {"key": stage.key, "kind": stage.kind, "score_name": stage.score_name, "embedder": embedder}


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
        "scores": outcome.scores[row][there].tolist(),
        "logits": {key: logits[row][there].tolist() for key, logits in outcome.logits.items()},
    }


def read_replay(source: Path | str | bytes) -> Outcome:
    """Read a replay from a path or from bytes. Raises InputError, which names the place that is wrong."""
    # Show only the name of a file: users must not see the folder of uploads.
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
        raise InputError(f"{name} is too large; the limit is {MAX_BYTES >> 20} MB")
    if source.count(b"[") + source.count(b"{") > MAX_PARTS:
        raise InputError(f"{name} has too many lists and objects; the limit is {MAX_PARTS:,}")
    try:
        document = json.loads(source.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not JSON ({str(error)[:120]}); give the replay.json that eval --out wrote"
        ) from error
    return from_replay(document, name)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def from_replay(document: Any, name: str = "the replay") -> Outcome:
    """Check every part of a replay document and return its outcome. Raises InputError."""
    replay = _read_version(document, name)
    cutoffs = parse_cutoffs(replay.settings.cutoffs)
    shape = _check_size(replay, cutoffs, name)
    first, rerankers = replay.first_stage.system(), tuple(part.system() for part in replay.rerankers)
    keys = {part.key for part in rerankers}
    places, scores = np.full(shape, -1, dtype=np.int32), np.full(shape, np.nan)
    logits = {part.key: np.full(shape, np.nan) for part in rerankers}
    _fill(replay, places, scores, logits, name)
    return Outcome(
        corpus=replay.corpus.name,
        corpus_fingerprint=replay.corpus.fingerprint,
        passage_count=replay.corpus.passages,
        split=replay.split,
        first_stage=first,
        rerankers=rerankers,
        top_k=replay.settings.top_k,
        top_n=replay.settings.top_n,
        cutoffs=cutoffs,
        queries=tuple(Query(row.query_id, row.text) for row in replay.queries),
        qrels={row.query_id: row.qrels for row in replay.queries},
        passage_ids=tuple(replay.passage_ids),
        places=places,
        scores=scores,
        logits=logits,
        latency={
            key: _read_latency(part) for key, part in replay.latency.items() if key in {first.key, *keys}
        },
        languages=tuple(replay.corpus.languages),
        language_source=replay.corpus.language_source,
        notes=tuple(replay.notes),
        created=replay.created,
        versions=replay.versions,
        counts=replay.counts,
        passages=_read_passages(replay, name),
    )


def _read_version(document: Any, name: str) -> Replay1 | Replay2:
    """Read the document with the model of its version. Raises InputError if the version is unknown."""
    from rag_inspect.evaluation.replay_models import MODELS, read_part

    if not isinstance(document, dict):
        refuse(name, (), f"is a {type(document).__name__}", "an object")
    for key in ("kind", "version"):
        if key not in document:
            refuse(name, (), f'has no "{key}"', "a replay as eval --out writes it")
    version = document["version"]
    if document["kind"] != KIND:
        raise InputError(
            f'{name} is not a replay; expected "kind": "{KIND}", as eval --out writes it in replay.json'
        )
    if type(version) is not int or version not in MODELS:
        newer = "update rag-inspect, or " if type(version) is int and version > VERSION else ""
        raise InputError(
            f'{name} has "version": {describe_value(version)}; expected a whole number from 1 to {VERSION}: '
            f"{newer}write the replay again with eval --out"
        )
    return read_part(MODELS[version], document, name)


def _check_size(replay: Replay1 | Replay2, cutoffs: tuple[int, ...], name: str) -> tuple[int, int]:
    """Check that the parts fit together and need no more memory than allowed; return (queries, depth)."""
    rows, ids = replay.queries, replay.passage_ids
    keys = [replay.first_stage.key, *(part.key for part in replay.rerankers)]
    depth = max(len(row.candidates) for row in rows)
    cells = len(rows) * len(keys) * max(depth, len(metrics_at(cutoffs)))
    widest = len(rows) * count_most_gold(row.qrels for row in rows)
    if len(set(keys)) < len(keys):
        refuse(name, ("rerankers",), f"has the keys {keys}", "each key once, and not that of the first stage")
    if depth == 0:
        refuse(name, ("queries",), "has no candidates at all", "at least one")
    if depth > replay.settings.top_k:
        refuse(name, ("queries",), f"has {depth} candidates", f"at most top_k ({replay.settings.top_k})")
    if max(cells, widest) > MAX_CELLS:
        asked = (
            "queries, systems, depth and metrics" if cells > MAX_CELLS else "queries and the largest gold set"
        )
        refuse(
            name,
            ("queries",),
            f"asks for {max(cells, widest):,} numbers",
            f"at most {MAX_CELLS:,}, from {asked}",
        )
    if len({row.query_id for row in rows}) < len(rows):
        refuse(name, ("queries",), "repeats a query_id", "each once")
    if len(ids) > len(rows) * depth:
        refuse(name, ("passage_ids",), f"has {len(ids):,} entries", f"at most {len(rows) * depth:,}")
    if replay.corpus.passages < len(ids):
        refuse(name, ("corpus", "passages"), f"is {replay.corpus.passages:,}", f"at least {len(ids):,}")
    _check_latency(replay, depth, name)
    return len(rows), depth


def _check_latency(replay: Replay1 | Replay2, depth: int, name: str) -> None:
    for key, part in replay.latency.items():
        steps, place = len(part.depth_ms), ("latency", key)
        # The first stage takes the same time at every depth, so one number is enough.
        allowed = {0, depth, 1} if key == replay.first_stage.key else {0, depth}
        if steps not in allowed:
            refuse(name, (*place, "depth_ms"), f"has {steps} steps", f"none, or one for each depth ({depth})")
        if part.queries > len(replay.queries):
            refuse(name, (*place, "queries"), f"is {part.queries:,}", f"at most {len(replay.queries):,}")


def _fill(
    replay: Replay1 | Replay2,
    places: np.ndarray,
    scores: np.ndarray,
    logits: Mapping[str, np.ndarray],
    name: str,
) -> None:
    """Fill the arrays with the candidates and their scores. Raises InputError if their numbers differ."""
    known, stage = len(replay.passage_ids), replay.first_stage
    own, most = type(replay).scores_name, _LARGEST.get(stage.score_name, np.inf)
    for at, row in enumerate(replay.queries):
        count, place = len(row.candidates), ("queries", at)
        if max(row.candidates, default=0) >= known:
            refuse(
                name, (*place, "candidates"), f"names passage {max(row.candidates):,}", f"less than {known:,}"
            )
        if max(map(abs, row.scores), default=0) > most:
            refuse(name, (*place, own), f"is not a {stage.score_name}", f"numbers from {-most} to {most}")
        places[at, :count] = row.candidates
        _fill_row(scores[at], row.scores, count, name, (*place, own))
        for key, array in logits.items():
            if key not in row.logits:
                refuse(name, (*place, "logits"), f'has no "{key}"', "the scores of every reranker")
            _fill_row(array[at], row.logits[key], count, name, (*place, "logits", key))


def _fill_row(
    row: np.ndarray, values: list[float], count: int, name: str, place: tuple[int | str, ...]
) -> None:
    if len(values) != count:
        refuse(name, place, f"has {len(values):,} entries", f"{count:,}, one for each candidate")
    row[:count] = values


def _read_latency(part: LatencyPart) -> Latency:
    if part.source == "unknown":
        return Latency()
    return Latency(tuple(part.depth_ms), part.p50, part.p95, part.queries, part.source)


def _read_passages(replay: Replay1 | Replay2, name: str) -> dict[str, tuple[str, str]]:
    """Read the texts of the passages in `passage_ids`; other texts are ignored."""
    from rag_inspect.evaluation.replay_models import PassagePart, read_part

    carried = ((pid, replay.passages[pid]) for pid in replay.passage_ids if pid in replay.passages)
    parts = {pid: read_part(PassagePart, value, name, ("passages", pid)) for pid, value in carried}
    return {pid: (part.title, part.text) for pid, part in parts.items()}

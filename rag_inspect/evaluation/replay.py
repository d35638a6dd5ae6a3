"""Read replay.json, an evaluation that opens without a model. It is untrusted, so all of it is checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from rag_inspect.errors import InputError
from rag_inspect.evaluation.fair import BLEND
from rag_inspect.evaluation.fusion import WEIGHTS
from rag_inspect.evaluation.outcome import FusedOutcome, Outcome, StageOutcome, count_most_relevant
from rag_inspect.evaluation.replay_errors import refuse
from rag_inspect.evaluation.replay_writer import KIND, VERSION
from rag_inspect.evaluation.systems import list_keys, name_file
from rag_inspect.metrics import NO_PASSAGE, UNJUDGED, metrics_at, parse_cutoffs
from rag_inspect.options import Aim
from rag_inspect.types import Query
from rag_inspect.words import describe_value

if TYPE_CHECKING:  # load pydantic only when a replay is read
    from rag_inspect.evaluation.replay_models import AnyReplay, QueryPart

MAX_BYTES = 128 << 20
MAX_PARTS = 4_000_000  # lists and objects: "[]," takes 3 bytes in a file and 70 in memory
MAX_CELLS = 8_000_000  # numbers in one table of the assessment: enough for a replay of MAX_BYTES; stops a short replay that asks for more
FUSED_SHARE = 8  # the fused rankings of all weights may take so many times as much
_LARGEST: Mapping[str, float] = {
    "cosine": 1.01
}  # score name -> largest absolute score, with room for rounding


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
    systems = {*_list_systems(replay), *([replay.fused.key] if replay.fused else [])}
    latency = {replay.name_latency(key): part.read() for key, part in replay.latency.items()}
    return Outcome(
        corpus=replay.corpus.name,
        corpus_fingerprint=replay.corpus.fingerprint,
        passage_count=replay.corpus.passages,
        split=replay.split,
        stages=tuple(_read_stage(replay, at, shape, name) for at in range(len(replay.first_stages))),
        rerankers=tuple(part.read() for part in replay.rerankers),
        fused=_read_fused(replay, shape, name),
        aim=replay.settings.aim.read() if replay.settings.aim else Aim(),
        reach=_read_reach(replay, name),
        tags={row.query_id: tuple(row.tagged) for row in replay.queries if row.tagged},
        top_k=replay.settings.top_k,
        top_n=replay.settings.top_n,
        cutoffs=cutoffs,
        gold_grade=replay.settings.gold_grade,
        queries=tuple(Query(row.query_id, row.text) for row in replay.queries),
        qrels={row.query_id: row.qrels for row in replay.queries},
        passage_ids=tuple(replay.passage_ids),
        latency={key: value for key, value in latency.items() if key in systems},
        machine=replay.machine.read() if replay.machine else None,
        languages=tuple(replay.corpus.languages),
        language_source=replay.corpus.language_source,
        notes=tuple(replay.notes),
        created=replay.created,
        versions=replay.versions,
        counts=replay.counts,
        passages=_read_passages(replay, name),
    )


def _list_systems(replay: AnyReplay) -> list[str]:
    return list_keys([part.key for part in replay.first_stages], [part.key for part in replay.rerankers])


def _read_version(document: Any, name: str) -> AnyReplay:
    """Read the document with the model of its version. Raises InputError if the version is unknown."""
    from rag_inspect.evaluation.replay_models import MODELS
    from rag_inspect.evaluation.replay_parts import read_part

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


def _check_size(replay: AnyReplay, cutoffs: tuple[int, ...], name: str) -> tuple[int, int]:
    """Check that the parts fit together and need no more memory than allowed; return (queries, depth)."""
    rows: Sequence[QueryPart] = replay.queries
    ids, stages = replay.passage_ids, len(replay.first_stages)
    _check_keys(replay, name)
    for at, row in enumerate(rows):
        if len(row.found) != stages:
            place = ("queries", at, "stages")
            refuse(name, place, f"has {len(row.found)} entries", f"{stages}, one for each first stage")
    depth = max(1, max(len(stage.candidates) for row in rows for stage in row.found))
    if depth > replay.settings.top_k:
        refuse(name, ("queries",), f"has {depth} candidates", f"at most top_k ({replay.settings.top_k})")
    wide, systems = len(rows) * max(depth, len(metrics_at(cutoffs))), len(_list_systems(replay))
    cells = max(wide * systems, wide * len(WEIGHTS) * (systems - stages + bool(replay.fused)) // FUSED_SHARE)
    widest = len(rows) * count_most_relevant(row.qrels for row in rows)
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
    _check_queries(rows, replay.settings.gold_grade, name)
    most = len(rows) * depth * stages
    if len(ids) > most:
        refuse(name, ("passage_ids",), f"has {len(ids):,} entries", f"at most {most:,}")
    if replay.corpus.passages < len(ids):
        refuse(name, ("corpus", "passages"), f"is {replay.corpus.passages:,}", f"at least {len(ids):,}")
    _check_latency(replay, depth, name)
    return len(rows), depth


def _check_queries(rows: Sequence[QueryPart], gold_grade: int, name: str) -> None:
    if len({row.query_id for row in rows}) < len(rows):
        refuse(name, ("queries",), "repeats a query_id", "each once")
    for at, row in enumerate(rows):
        if (highest := max(row.qrels.values())) < gold_grade:
            expected = f"at least one gold passage, of grade {gold_grade} or above"
            refuse(name, ("queries", at, "qrels"), f"has {highest} as its highest grade", expected)


def _check_keys(replay: AnyReplay, name: str) -> None:
    """Check that every system has a name and a file of its own."""
    for place, parts in (("first_stages", replay.first_stages), ("rerankers", replay.rerankers)):
        keys = [part.key for part in parts]
        if len(set(keys)) < len(keys):
            refuse(name, (place,), f"has the keys {keys}", "each key once")
    keys = [*(part.key for part in replay.first_stages), BLEND, *([replay.fused.key] if replay.fused else [])]
    if twice := [key for key, count in Counter(keys).items() if count > 1]:
        refuse(name, (), f'has two systems named "{twice[0]}"', "a name of its own for each")
    files = list(map(name_file, _list_systems(replay)))
    if len(set(files)) < len(files):
        refuse(name, ("first_stages",), "has keys that look the same in the name of a file", "other keys")


def _check_latency(replay: AnyReplay, depth: int, name: str) -> None:
    firsts = {part.key for part in replay.first_stages} | ({replay.fused.key} if replay.fused else set())
    for key, part in replay.latency.items():
        steps, place = len(part.depth_ms), ("latency", key)
        # A first stage takes the same time at every depth, so one number is enough.
        allowed = {0, depth, 1} if key in firsts else {0, depth}
        if steps not in allowed:
            refuse(name, (*place, "depth_ms"), f"has {steps} steps", f"none, or one for each depth ({depth})")
        if part.queries > len(replay.queries):
            refuse(name, (*place, "queries"), f"is {part.queries:,}", f"at most {len(replay.queries):,}")


def _read_stage(replay: AnyReplay, at: int, shape: tuple[int, int], name: str) -> StageOutcome:
    """Read what a first stage found. Raises InputError if the numbers of candidates and scores differ."""
    stage, known, own = replay.first_stages[at], len(replay.passage_ids), type(replay).scores_name
    most = _LARGEST.get(stage.score_name, np.inf)
    places, scores = np.full(shape, -1, dtype=np.int32), np.full(shape, np.nan)
    logits = {part.key: np.full(shape, np.nan) for part in replay.rerankers}
    rows: Sequence[QueryPart] = replay.queries
    for number, row in enumerate(rows):
        found, place = row.found[at], ("queries", number, *row.place(at))
        count = len(found.candidates)
        if max(found.candidates, default=0) >= known:
            last = max(found.candidates)
            refuse(name, (*place, "candidates"), f"names passage {last:,}", f"less than {known:,}")
        if max(map(abs, found.scores), default=0) > most:
            refuse(name, (*place, own), f"is not a {stage.score_name}", f"numbers from {-most} to {most}")
        places[number, :count] = found.candidates
        _fill_row(scores[number], found.scores, count, name, (*place, own))
        for key, array in logits.items():
            if key not in found.logits:
                refuse(name, (*place, "logits"), f'has no "{key}"', "the scores of every reranker")
            _fill_row(array[number], found.logits[key], count, name, (*place, "logits", key))
    return StageOutcome(first_stage=stage.read(), places=places, scores=scores, logits=logits)


def _read_fused(replay: AnyReplay, shape: tuple[int, int], name: str) -> FusedOutcome | None:
    """Read the fused rankings. Raises InputError for a grade that has no place."""
    if replay.fused is None:
        return None
    grades, (_, depth) = np.full((len(WEIGHTS), *shape), UNJUDGED), shape
    for number, row in enumerate(replay.queries):
        last = min(depth, row.fused_end)
        grades[:, number, last:] = NO_PASSAGE
        for at, (weight, rank, grade) in enumerate(row.graded):
            if not (0 <= weight < len(WEIGHTS) and 0 < rank <= last):
                found = f"has weight {weight} and rank {rank}"
                expected = f"a weight below {len(WEIGHTS)}, a rank from 1 to {last}"
                refuse(name, ("queries", number, "fused", at), found, expected)
            if grades[weight, number, rank - 1] != UNJUDGED:
                found = f"repeats weight {weight} and rank {rank}"
                refuse(name, ("queries", number, "fused", at), found, "each place once")
            grades[weight, number, rank - 1] = grade
        own = Counter(max(grade, 0) for grade in row.qrels.values())
        for (_, grade), count in Counter((weight, grade) for weight, _, grade in row.graded).items():
            if count > own[grade]:
                found = f"ranks {count:,} passages of grade {grade}"
                expected = f"at most {own[grade]:,}, as the query has"
                refuse(name, ("queries", number, "fused"), found, expected)
    return FusedOutcome(key=replay.fused.key, embedder=replay.fused.embedder.read(), grades=grades)


def _read_reach(replay: AnyReplay, name: str) -> dict[str, dict[str, int | None]]:
    """Read the ranks of the unreachable gold. Raises InputError for a query that the replay lacks, or ranks of others."""
    known, reach = {row.query_id for row in replay.queries}, replay.reach
    if strangers := [query_id for query_id in reach if query_id not in known]:
        refuse(name, ("reach",), f'names the query "{strangers[0][:40]}"', "queries of the replay")
    if len({tuple(ranks) for ranks in reach.values()}) > 1:
        refuse(name, ("reach",), "has ranks of different first stages", "the same ones for every query")
    return reach


def _fill_row(
    row: np.ndarray, values: list[float], count: int, name: str, place: tuple[int | str, ...]
) -> None:
    if len(values) != count:
        refuse(name, place, f"has {len(values):,} entries", f"{count:,}, one for each candidate")
    row[:count] = values


def _read_passages(replay: AnyReplay, name: str) -> dict[str, tuple[str, str]]:
    """Read the texts of the passages in `passage_ids`; other texts are ignored."""
    from rag_inspect.evaluation.replay_parts import PassagePart, read_part

    carried = ((pid, replay.passages[pid]) for pid in replay.passage_ids if pid in replay.passages)
    parts = {pid: read_part(PassagePart, value, name, ("passages", pid)) for pid, value in carried}
    return {pid: (part.title, part.text) for pid, part in parts.items()}

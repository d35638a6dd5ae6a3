"""Write replay.json, an evaluation that opens without a model."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import numpy as np

from rag_inspect.evaluation.outcome import MAX_CARRIED, Outcome, StageOutcome
from rag_inspect.evaluation.systems import Latency
from rag_inspect.metrics import NO_PASSAGE, UNJUDGED

KIND, VERSION = "rag-inspect replay", 3
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
        "first_stages": [stage.first_stage.to_json() for stage in outcome.stages],
        "rerankers": [model.to_json() for model in outcome.rerankers],
        "settings": {
            "top_k": outcome.top_k, "top_n": outcome.top_n, "cutoffs": list(outcome.cutoffs),
            "gold_grade": outcome.gold_grade, "aim": asdict(outcome.aim),
        },
        "fused": {"key": outcome.fused.key, "embedder": outcome.fused.embedder.to_json()} if outcome.fused else None,
        "reach": {key: dict(ranks) for key, ranks in outcome.reach.items()},
        "machine": outcome.machine.to_json() if outcome.machine else None,
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
    query = outcome.queries[row]
    return {
        "query_id": query.query_id,
        "text": query.text,
        "qrels": dict(outcome.qrels[query.query_id]),
        "stages": [_stage_document(stage, row) for stage in outcome.stages],
        "fused": _list_grades(outcome.fused.grades[:, row]) if outcome.fused else [],
        "fused_length": int((outcome.fused.grades[0, row] > NO_PASSAGE).sum()) if outcome.fused else 0,
        "tags": list(outcome.tags.get(query.query_id, ())),
    }


def _list_grades(grades: np.ndarray) -> list[list[int]]:
    """Return [place in WEIGHTS, rank, grade] of every judged passage in the fused rankings of one query."""
    return [[w, rank + 1, int(grades[w, rank])] for w, rank in np.argwhere(grades > UNJUDGED).tolist()]


def _stage_document(stage: StageOutcome, row: int) -> dict[str, Any]:
    there = stage.places[row] >= 0
    return {
        "candidates": stage.places[row][there].tolist(),
        "scores": stage.scores[row][there].tolist(),
        "logits": {key: logits[row][there].tolist() for key, logits in stage.logits.items()},
    }

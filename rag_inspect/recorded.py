"""Example searches recorded beside a corpus, so that the first screen is full before any model is loaded.

`make record` records the examples of every built-in corpus anew (recording.py); a test holds each record equal to
a live search.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rag_inspect.errors import CorpusError, RagInspectError
from rag_inspect.files import write_text
from rag_inspect.pipeline import finish
from rag_inspect.types import Corpus, ModelSpec, Ranking, Reading, Search

FILE = "recorded.json"


def read_record(corpus: Corpus, query: str, models: Mapping[str, ModelSpec]) -> Search | None:
    """The recorded search of this query text, None where there is none of these models at these revisions."""
    path = corpus.path / FILE if corpus.path else None
    if path is None or not path.exists():
        return None
    try:
        for document in json.loads(path.read_text(encoding="utf-8")):
            if document["query"] == query.strip() and _still_true(document, corpus, models):
                return from_json(document, corpus, models)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RagInspectError):
        return None  # of another version, or broken: a live search does as well
    return None


def from_json(document: Mapping[str, Any], corpus: Corpus, models: Mapping[str, ModelSpec]) -> Search:
    """The finished Search that `Search.to_json` wrote down, over the same corpus."""
    candidates = Ranking.of([(hit["passage_id"], hit["score"]) for hit in document["candidates"]])
    read = {hit["passage_id"]: hit["read_tokens"] for hit in document["reranked"]}
    cut = {hit["passage_id"]: hit["truncated_tokens"] for hit in document["reranked"]}
    search = Search(
        corpus.query_by_text[document["query"]],
        corpus.name,
        models[document["embedder"]["key"]],
        models[document["reranker"]["key"]],
        document["top_k"],
        document["top_n"],
        candidates,
        passages={pid: corpus.passage_by_id[pid] for pid in candidates.passage_ids},
        gold=frozenset(document["gold"]),
        logits={hit["passage_id"]: hit["score"] for hit in document["reranked"]},
        readings={pid: Reading(read[pid], read[pid] + cut[pid]) for pid in read},
        timings_ms={str(name): float(ms) for name, ms in document["timings_ms"].items()},
        scored_pairs=int(document["scored_pairs"]),
        cached_pairs=int(document["cached_pairs"]),
        notes=tuple(document["notes"]),
    )
    return finish(search)


def _still_true(document: Mapping[str, Any], corpus: Corpus, models: Mapping[str, ModelSpec]) -> bool:
    pinned = all(
        models[document[kind]["key"]].revision == document[kind]["revision"]
        for kind in ("embedder", "reranker")
    )
    return pinned and document["fingerprint"] == corpus.fingerprint


def record(corpus: Corpus, searches: list[Search]) -> None:
    """Write these finished searches as the corpus's record; what they took is no part of it.

    Raises CorpusError for a corpus that is in no folder: there is nowhere to write.
    """
    if corpus.path is None:
        raise CorpusError(f"{corpus.name} is in no folder, so no searches can be recorded beside it")
    documents = [
        {
            "fingerprint": corpus.fingerprint,
            **replace(search, timings_ms={}, scored_pairs=0, cached_pairs=0).to_json(),
        }
        for search in searches
    ]
    text = json.dumps(documents, ensure_ascii=False, indent=1)
    write_text(corpus.path / FILE, text + "\n")

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
from rag_inspect.types import Corpus, FirstStage, ModelSpec, Reranking, read_search, write_search

FILE = "recorded.json"


def read_record(
    corpus: Corpus, query: str, first_stages: Mapping[str, FirstStage], rerankers: Mapping[str, ModelSpec]
) -> Reranking | None:
    """The recorded search of this query text, None where there is none of these models at these revisions."""
    path = corpus.path / FILE if corpus.path else None
    if path is None or not path.exists():
        return None
    try:
        for document in json.loads(path.read_text(encoding="utf-8")):
            if document["query"] == query.strip() and document["fingerprint"] == corpus.fingerprint:
                [found] = read_search(document, corpus, first_stages, rerankers)
                return found if _is_still_true(document, found) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RagInspectError):
        return None  # from another version, or damaged: run a live search instead
    return None


def _is_still_true(document: Mapping[str, Any], found: Reranking) -> bool:
    """Whether both models are at the revisions they were recorded with."""
    embedder = found.candidates.first_stage.embedder
    pinned = document["first_stage"]["embedder"]["revision"], document["reranker"]["revision"]
    return embedder is not None and pinned == (embedder.revision, found.reranker.revision)


def record(corpus: Corpus, searches: list[Reranking]) -> None:
    """Write these finished searches as the corpus's record; what they took is no part of it.

    Raises CorpusError for a corpus that is in no folder: there is nowhere to write.
    """
    if corpus.path is None:
        raise CorpusError(f"{corpus.name} is in no folder, so no searches can be recorded beside it")
    documents = [
        {
            "fingerprint": corpus.fingerprint,
            **write_search([replace(search, timings_ms={}, scored_pairs=0, cached_pairs=0)]),
        }
        for search in searches
    ]
    text = json.dumps(documents, ensure_ascii=False, indent=1)
    write_text(corpus.path / FILE, text + "\n")

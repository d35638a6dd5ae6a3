"""Read and write example searches recorded beside a corpus: they fill the first screen while the models load.

`make record` records the examples of every built-in corpus again (recording.py). A test checks that each record
equals a live search.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rag_inspect.corpora.opener import CorpusFile
from rag_inspect.errors import CorpusError, RagInspectError
from rag_inspect.files import write_text
from rag_inspect.types import Corpus, FirstStage, ModelSpec, Reranking, read_search, write_search

FILE = "recorded.json"
MAX_BYTES = 16 << 20


def read_record(
    corpus: Corpus,
    query_id: str | None,
    first_stages: Mapping[str, FirstStage],
    rerankers: Mapping[str, ModelSpec],
) -> Reranking | None:
    """Return the recorded search of this query; None if there is none by these models at these revisions."""
    path = corpus.path / FILE if corpus.path else None
    if corpus.path is None or path is None or not path.exists():
        return None
    try:
        for document in json.loads(CorpusFile(corpus.path, path).read_text(MAX_BYTES)):
            if document["query_id"] == query_id and document["fingerprint"] == corpus.fingerprint:
                [found] = read_search(document, corpus, first_stages, rerankers)
                return found if _has_same_revisions(document, found) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, RagInspectError):
        return None  # from another version, or damaged: run a live search instead
    return None


def _has_same_revisions(document: Mapping[str, Any], found: Reranking) -> bool:
    """Return True if both models still have the revisions that were recorded."""
    embedder = found.candidates.first_stage.embedder
    pinned = document["first_stage"]["embedder"]["revision"], document["reranker"]["revision"]
    return embedder is not None and pinned == (embedder.revision, found.reranker.revision)


def record(corpus: Corpus, searches: list[Reranking]) -> None:
    """Write these complete searches to the corpus's folder, without timings and pair counts.

    Raises CorpusError for a corpus without a folder.
    """
    if corpus.path is None:
        raise CorpusError(
            f"{corpus.name} has no folder, so its searches cannot be recorded; read it from a folder"
        )
    untimed = [
        replace(search, timings_ms={}, scored_pairs=0, cached_pairs=0, cached_ms=0.0) for search in searches
    ]
    documents = [{"fingerprint": corpus.fingerprint, **write_search([search])} for search in untimed]
    text = json.dumps(documents, ensure_ascii=False, indent=1)
    write_text(corpus.path / FILE, text + "\n")

"""What the models did not read of a search, in sentences: for the page and for the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rag_inspect.types import Reading, Reranking, find_query_reading, list_readings
from rag_inspect.words import format_count


def describe_readings(reranking: Reranking) -> list[str]:
    """What either stage left unread, the query first; nothing where all was read, or nobody tells."""
    models = list_readings(reranking)
    asked = {key: query for key, readings in models if (query := find_query_reading(readings))}
    return [
        *_describe_unknown(asked),
        *_describe_cut_query(asked, dict(models)),
        *_describe_cut_passages(reranking),
    ]


def _describe_unknown(asked: Mapping[str, Reading]) -> Iterator[str]:
    """Of a query that a model has no tokens for, in whole or in part."""
    nothing = [key for key, query in asked.items() if query.means_nothing]
    if nothing:
        yield (
            f"{' and '.join(nothing)} can read nothing of this query, which has no character that "
            f"{'they know' if len(nothing) > 1 else 'it knows'}: the order means nothing."
        )
    parts: dict[tuple[int, int], list[str]] = {}
    for key, query in asked.items():
        if query.unknown and not query.means_nothing:
            parts.setdefault((query.unknown, query.total), []).append(key)
    for (unknown, total), keys in parts.items():
        known = "do not know" if len(keys) > 1 else "does not know"
        yield f"{' and '.join(keys)} {known} {unknown:,} of the query's {format_count(total, 'token', 'tokens')}."


def _describe_cut_query(
    asked: Mapping[str, Reading], models: Mapping[str, Mapping[str, Reading]]
) -> Iterator[str]:
    """Of a query that is too long: models that count its tokens alike share a sentence."""
    cut: dict[int, list[str]] = {}
    for key, query in asked.items():
        if query.truncated:
            most = max(reading.query.read for reading in models[key].values() if reading.query)
            span = (
                f"{query.read:,}"
                if most == query.read
                else f"{query.read:,} to {most:,}, depending on the passage"
            )
            cut.setdefault(query.total, []).append(f"{key} read {span}")
    for total, parts in cut.items():
        yield f"The query has {format_count(total, 'token', 'tokens')}; {', '.join(parts)}."


def _describe_cut_passages(reranking: Reranking) -> Iterator[str]:
    stage, key = reranking.candidates.first_stage, reranking.reranker.key
    ends = sum(reading.truncated > 0 for reading in reranking.candidates.readings.values())
    if ends:
        run = "passage runs" if ends == 1 else "passages run"
        window = f" ({stage.embedder.max_tokens:,} tokens)" if stage.embedder else ""
        yield f"{ends:,} {run} past what {stage.reader} embeds{window}."
    cut = [reading.truncated for reading in reranking.readings.values() if reading.truncated]
    if cut:
        passages = format_count(len(cut), "passage", "passages")
        tokens = format_count(max(cut), "token", "tokens")
        up_to = "up to " if len(cut) > 1 else ""
        yield f"{key} read only the start of {passages} ({up_to}{tokens} cut off)."

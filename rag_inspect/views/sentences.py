"""The lines of text above and below the columns: the summary, the timings and the notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag_inspect.types import Reranking
from rag_inspect.views.formats import format_ms
from rag_inspect.views.readings import describe_readings
from rag_inspect.views.templates import render
from rag_inspect.words import format_count

_STEP_WORDS = {"embed": "embed the query"}  # other steps keep their names
_NO_STEPS = ("load", "total")  # not steps of the search: loading before it, and the sum


@dataclass(frozen=True, slots=True)
class _Step:
    """A part of the line of timings; the number is bold."""

    words: str
    number: str = ""


def sentence_html(reranking: Reranking) -> str:
    """Render the summary in one sentence, or the progress while scoring goes on."""
    scored, every = len(reranking.ranking), len(reranking.candidates)
    progress = f"{scored} / {every} scored by {reranking.reranker.key} …"
    return _render_lines(sentence=reranking.summary if reranking.complete else progress)


def timings_html(reranking: Reranking) -> str:
    """Render the time of each step, cached pairs and notes; the loading of a first use is listed separately."""
    timings, scored, cached = reranking.timings_ms, reranking.scored_pairs, reranking.cached_pairs
    # Reading the cache is not what reranking takes, and scoring the rest is only a part of it.
    partly = bool(cached) and (not scored or reranking.cached_ms is not None)
    untimed = {*_NO_STEPS, "rerank"} if partly else _NO_STEPS
    steps = [
        _Step(_STEP_WORDS.get(name, name), f"{format_ms(ms)} ms")
        for name, ms in timings.items()
        if name not in untimed
    ]
    if words := describe_scoring(reranking):
        steps.append(_Step(f"rerank: {words}" if partly else words))
    if "load" in timings:
        steps.append(_Step("first use: loading and indexing took", f"{timings['load'] / 1000:,.1f} s"))
    notes = [*reranking.candidates.notes, *reranking.notes, *describe_readings(reranking)]
    return _render_lines(steps=steps, notes=notes, timings=True)


def describe_scoring(reranking: Reranking) -> str:
    """Describe how many scores are new, and what the cached ones took when they were; "" before there is a score."""
    scored, cached, took = reranking.scored_pairs, reranking.cached_pairs, reranking.cached_ms
    if cached and not scored:
        from_cache = f"{format_count(cached, 'score', 'scores')} from the cache"
        if took is None:
            return f"{from_cache}, so not timed"
        return f"{from_cache}; {'it' if cached == 1 else 'they'} took {format_ms(took)} ms when scored"
    if cached and took is not None:
        ms = reranking.timings_ms.get("rerank")
        now = f"{scored:,} scored" + (f" in {format_ms(ms)} ms" if ms is not None else "")
        return f"{cached:,} from the cache (took {format_ms(took)} ms when scored), {now}"
    return f"{format_count(scored, 'pair', 'pairs')} scored, {cached:,} from the cache" if scored else ""


def aside_html(words: str, alert: bool = False) -> str:
    """Render a quiet line, such as a message about loading or stopping; a screen reader says an alert at once."""
    return _render_lines(notes=[words], alert=alert) if words else ""


def story_html(size: str, story: str) -> str:
    """Render the size of a corpus and the first sentence of its story; the rest opens on demand."""
    first, stop, rest = " ".join(story.split()).partition(". ")
    return render("story.html", first=f"{size}. {first}{stop.strip()}", rest=rest)


def _render_lines(
    sentence: str = "",
    steps: Sequence[_Step] = (),
    notes: Sequence[str] = (),
    timings: bool = False,
    alert: bool = False,
) -> str:
    shown = [note for note in notes if note]
    return render("sentences.html", sentence=sentence, steps=steps, notes=shown, timings=timings, alert=alert)

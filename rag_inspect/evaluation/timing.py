"""Time the systems of an evaluation after its scores are in: each first stage once, and each reranker once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from rag_inspect.evaluation.latency import (
    list_timed_depths,
    measure_reranker,
    note_failure,
    note_stop,
    sample_first_stage,
)
from rag_inspect.evaluation.passes import Found, Fusion, Pass
from rag_inspect.evaluation.progress import EvalProgress
from rag_inspect.evaluation.systems import Latency, join_key
from rag_inspect.types import Reranker

Timing = Generator[EvalProgress, None, dict[str, Latency]]


def time_systems(work: Pass, stopped: Callable[[], bool], timed: bool) -> Timing:
    """Time every system on a few queries, one at a time; if not `timed`, only the first stages.

    A system takes what its first stage takes, and what the reranker takes at its depth. If a model fails here, or
    once `stopped`, a latency is unknown and `work.notes` says why; the evaluation goes on.
    """
    firsts = yield from _time_first_stages(work, stopped)
    alone: dict[str, Latency] = {}
    if timed and any(latency.p50 is not None for latency in firsts.values()):
        alone = yield from _time_rerankers(work, stopped)
    measured = firsts | alone
    untimed = [key for key, latency in measured.items() if latency.p50 is None]
    if stopped() and untimed:
        work.notes.append(note_stop(untimed))
    known = dict(firsts)
    if work.fusion:
        known[work.fusion.key] = yield from _time_fusion(work, work.fusion, firsts, stopped)
    for first, before in firsts.items():
        known |= {join_key(first, key): latency.after(before) for key, latency in alone.items()}
    return known


def _time_first_stages(work: Pass, stopped: Callable[[], bool]) -> Timing:
    firsts: dict[str, Latency] = {}
    for stage in work.stages:
        firsts[stage.key] = Latency()
        if stopped():
            continue
        yield work.progress(timing=stage.key)
        if stage.retriever.first_stage.kind == "recorded":
            work.notes.append(
                f"{stage.key} was read from a file; add what its retriever takes to each latency of it."
            )
        try:
            firsts[stage.key] = sample_first_stage(stage.retriever, work.asked, work.deepest)
        except Exception as error:
            work.notes.append(note_failure(stage.key, error))
    return firsts


def _time_fusion(
    work: Pass, fusion: Fusion, firsts: Mapping[str, Latency], stopped: Callable[[], bool]
) -> Generator[EvalProgress, None, Latency]:
    """Add up what its two first stages take; joining their rankings takes no time beside it."""
    parts = []
    for retriever in (fusion.dense, fusion.bm25):
        key = retriever.first_stage.key
        if key in firsts:
            parts.append(firsts[key])
        elif not stopped():
            yield work.progress(timing=key)
            try:
                parts.append(sample_first_stage(retriever, work.asked, work.deepest))
            except Exception as error:
                work.notes.append(note_failure(key, error))
    times = [part.p50 for part in parts if part.p50 is not None]
    if len(times) < 2:
        return Latency()
    return Latency((sum(times),), sum(times), None, min(part.queries for part in parts), "sample")


def _time_rerankers(work: Pass, stopped: Callable[[], bool]) -> Timing:
    stage, alone = _choose_stage(work), dict[str, Latency]()
    for reranker in work.rerankers:
        alone[reranker.spec.key] = yield from _time_reranker(work, stage, reranker, stopped)
    if any(latency.p50 is not None for latency in alone.values()):
        work.notes += _describe_depths(work, stage)
    return alone


def _choose_stage(work: Pass) -> Found:
    """Return the first stage with the most candidates; of equal ones the first."""
    return max(work.stages, key=lambda stage: int((stage.places >= 0).sum()))


def _describe_depths(work: Pass, stage: Found) -> list[str]:
    *shallow, deepest = map(str, list_timed_depths(work.deepest))
    whose = f" on the candidates of {stage.key}" if len(work.stages) > 1 else ""
    if len(shallow) + 1 < work.deepest:
        at = f"at depths {', '.join(shallow)} and {deepest}"
        return [f"Rerankers were timed{whose} {at}; between these, latency is interpolated."]
    return [f"Rerankers were timed{whose}."] if whose else []


def _time_reranker(
    work: Pass, stage: Found, reranker: Reranker, stopped: Callable[[], bool]
) -> Generator[EvalProgress, None, Latency]:
    if stopped():
        return Latency()
    steps = measure_reranker(stage.retriever, reranker, work.asked, work.deepest, stopped)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            measured: Latency = end.value
            return measured
        except Exception as error:
            work.notes.append(note_failure(reranker.spec.key, error))
            return Latency()
        yield work.progress(timing=f"{reranker.spec.key}, {step}")

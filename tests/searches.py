"""Searches made by hand, at every moment of a search; `words` fills every text that comes from outside."""

from pathlib import Path

from rag_inspect.types import Candidates, FirstStage, ModelSpec, Passage, Query, Ranking, Reading, Reranking

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "closing tags": "</textarea></li></ol></div><img src=x onerror=alert(1)>",
    "attribute": '" onmouseover="alert(1)" x=\'',
    "template": "${alert(1)} {{7*7}} {0} %s %(x)s",
    "backslashes": "\\ \\n \\u0041 \\\\",
    "quotes": "'''\"\"\"`'",
    "entities": "&lt;b&gt; &amp;amp; &#60;",
    "right to left": "שלום \u202eevil\u202c עולם",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "control characters": "a\x00b\x1b[31m\x07",
    "line ends": "one\ntwo\r\nthree\u2028four",
    "comment": "<!-- --> <![CDATA[ ]]> <?php ?>",
    "long": "word " * 10_000,
    "one long word": "x" * 50_000,
}
MOMENTS = ("candidates", "partial", "finished")


DENSE = FirstStage(key="fixed", kind="dense", score_name="cosine", score_range=(0.0, 1.0))
HUB = ModelSpec(
    key="fixed-reranker", kind="reranker", model="tests/fixed-reranker", revision="1" * 40, source="hub",
    backend="test", parameters=1_000, max_tokens=512, languages=("en",), licence="MIT", score_name="logit",
    sigmoid=True,
)  # fmt: skip
MINI = ModelSpec(
    key="mini", kind="reranker", model="mini", revision="2", source="builtin", backend="mini", parameters=1_000,
    max_tokens=256, languages=("en",), licence="Apache-2.0", score_name="mini score",
    summary="cosine + word overlap + cross-encoder", card=Path("MODEL_CARD.md"),
)  # fmt: skip


def make_candidates(
    words: str = "plain",
    scores: tuple[float, ...] = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4),
    stage: FirstStage = DENSE,
) -> Candidates:
    """Make candidates with `words` as every text that comes from outside; the second and the third are gold."""
    passages = {
        f"{words[:200]}{n}": Passage(
            f"{words[:200]}{n}", words, words if n % 2 else "", {words[:50]: [words], "k": words}
        )
        for n in range(len(scores))
    }
    return Candidates(
        query=Query("q", words),
        first_stage=stage,
        top_k=len(scores),
        ranking=Ranking.of(list(zip(passages, scores, strict=True))),
        passages=passages,
        corpus=words,
        grades=dict.fromkeys(list(passages)[1:3], 1),
        notes=(words,),
    )


def make_reranking(words: str = "plain", moment: str = "finished", reranker: ModelSpec = HUB) -> Reranking:
    """Make a search of six candidates at one of MOMENTS, with `words` as every text that comes from outside."""
    candidates = make_candidates(words)
    count = len(candidates)
    scores = {pid: float(n * 7 % count) - 3 for n, pid in enumerate(candidates.passages)}
    timings = {"embed": 1.0, "retrieve": 2.0}
    if moment == "finished":
        return Reranking(
            candidates=candidates,
            reranker=reranker,
            top_n=2,
            ranking=rank(scores),
            readings={pid: Reading(100, 100 + n) for n, pid in enumerate(scores)},
            summary=f"The gold stays. {words[:80]}",
            timings_ms={"load": 2500.0, **timings, "rerank": 30.0, "total": 33.0},
            scored_pairs=count,
            notes=(words,),
        )
    some = dict(list(scores.items())[:3]) if moment == "partial" else {}
    return Reranking(
        candidates=candidates,
        reranker=reranker,
        top_n=2,
        ranking=rank(some),
        timings_ms=timings,
        scored_pairs=len(some),
    )


def rank(scores: dict[str, float]) -> Ranking:
    """Sort the passages by score, best first."""
    return Ranking.of(sorted(scores.items(), key=lambda pair: -pair[1]))

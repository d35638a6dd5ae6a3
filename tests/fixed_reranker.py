"""A reranker with scores that the test sets for each passage id, so that results can be worked out by hand."""

from collections.abc import Iterator, Mapping, Sequence

from rag_inspect.types import ModelSpec, Pair, Passage, Progress, Reading

WINDOW = 512


class FixedReranker:
    """Scores from a mapping of passage ids, `otherwise` for the rest; `scored` records what it was asked to score."""

    def __init__(
        self,
        scores: Mapping[str, float] | None = None,
        otherwise: float = 0.0,
        key: str = "fixed",
        batch: int = 4,
    ) -> None:
        self.scores = dict(scores or {})
        self.otherwise = otherwise
        self.batch = batch
        self.scored: list[tuple[str, str]] = []
        self.spec = ModelSpec(
            key=key,
            kind="reranker",
            model=f"tests/{key}",
            revision="0" * 40,
            parameters=0,
            max_tokens=WINDOW,
            languages=("en",),
            licence="Apache-2.0",
            backend="fixed",
            source="builtin",
            score_name="logit",
        )

    @property
    def fingerprint(self) -> str:
        return f"{self.spec.model}|{sorted(self.scores.items())}|{self.otherwise}"

    def warm_up(self, on_progress: Progress | None = None) -> None: ...

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        self.scored += [(query, passage.passage_id) for passage in passages]
        return [self.scores.get(passage.passage_id, self.otherwise) for passage in passages]

    def score_pairs(self, pairs: Sequence[tuple[str, Passage]]) -> Iterator[dict[int, float]]:
        for start in range(0, len(pairs), self.batch):
            batch = pairs[start : start + self.batch]
            yield {start + i: self.score(query, [passage])[0] for i, (query, passage) in enumerate(batch)}

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading]:
        """Count each word as a token."""
        totals = [len(passage.full_text.split()) for passage in passages]
        return [Reading(read=min(total, WINDOW), total=total) for total in totals]

    def components(self, pairs: Sequence[Pair]) -> dict[str, list[float]]:
        return {}

"""Test doubles for evaluations: a bag-of-words first stage, a reranker with given scores, and a corpus."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from rag_inspect.evaluation import evaluate
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.fusion import WEIGHTS
from rag_inspect.evaluation.outcome import FusedOutcome, Outcome, StageOutcome
from rag_inspect.evaluation.systems import FirstStageSystem, Model
from rag_inspect.retrieval import describe_dense
from rag_inspect.types import (
    Candidates,
    Corpus,
    CorpusCard,
    FirstStage,
    ModelSpec,
    Passage,
    Query,
    Ranking,
    Reading,
)


def spec(key, kind="reranker", languages=("en",), parameters=1_000_000):
    return ModelSpec(
        key=key, kind=kind, model=f"test/{key}", revision="r1", source="builtin", backend="test", parameters=parameters,
        max_tokens=512, languages=languages, licence="MIT", score_name="cosine" if kind == "embedder" else "logit",
    )  # fmt: skip


class BagEmbedder:
    """Hash words into 64 dimensions, so that passages that share words with the query are near it."""

    spec = spec("bag", "embedder")
    fingerprint = "bag"

    def embed_queries(self, texts):
        return np.stack([self._vector(text) for text in texts])

    def embed_passages(self, passages):
        return np.stack([self._vector(passage.full_text) for passage in passages])

    def _vector(self, text):
        vector = np.full(64, 1e-3)
        for word, count in Counter(re.findall(r"\w+", text.lower())).items():
            vector[sum(word.encode()) % 64] += count
        return vector / np.linalg.norm(vector)


class ExactRetriever:
    """A `Retriever` that does by brute force what DenseRetriever does."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.embedder = corpus, BagEmbedder()
        self.first_stage: FirstStage = describe_dense(self.embedder.spec)
        self._vectors = self.embedder.embed_passages(corpus.passages)

    def search(self, queries: Sequence[Query], top_k: int) -> list[Candidates]:
        cosines = self.embedder.embed_queries([query.text for query in queries]) @ self._vectors.T
        cosines = cosines.round(9)  # processors differ in the last digits, which would decide ties
        return [self._rank(query, row, top_k) for query, row in zip(queries, cosines, strict=True)]

    def audit(self, queries, top_k):
        return None

    def rank_exactly(self, wanted, top_k):
        found = self.search([query for query, _ in wanted], len(self.corpus.passages))
        return [
            {pid: candidates.ranking.rank_by_id[pid] for pid in ids}
            for candidates, (_, ids) in zip(found, wanted, strict=True)
        ]

    def readings(self, query, passages):
        return None

    def _rank(self, query: Query, cosines: np.ndarray, top_k: int) -> Candidates:
        order = np.argsort(-cosines, kind="stable")[:top_k]
        passages = [self.corpus.passages[at] for at in order]
        return Candidates(
            query=query, first_stage=self.first_stage, top_k=top_k,
            ranking=Ranking.of([(p.passage_id, cosines[at]) for p, at in zip(passages, order, strict=True)]),
            passages={passage.passage_id: passage for passage in passages},
        )  # fmt: skip


class WordRetriever:
    """A first stage that counts the words of the query in a passage; it finds only passages that have one."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.first_stage = FirstStage(key="words", kind="bm25", score_name="bm25")

    def search(self, queries: Sequence[Query], top_k: int) -> list[Candidates]:
        return [self._rank(query, top_k) for query in queries]

    def audit(self, queries, top_k):
        return None

    def rank_exactly(self, wanted, top_k):
        found = self.search([query for query, _ in wanted], len(self.corpus.passages))
        ranks = [candidates.ranking.rank_by_id for candidates in found]
        return [
            {pid: known[pid] for pid in ids if pid in known}
            for known, (_, ids) in zip(ranks, wanted, strict=True)
        ]

    def readings(self, query, passages):
        return None

    def _rank(self, query: Query, top_k: int) -> Candidates:
        asked = set(re.findall(r"\w{4,}", query.text.lower()))
        counts = [
            sum(word in asked for word in re.findall(r"\w+", passage.full_text.lower()))
            for passage in self.corpus.passages
        ]
        order = [at for at in np.argsort(-np.array(counts), kind="stable")[:top_k] if counts[at]]
        passages = [self.corpus.passages[at] for at in order]
        return Candidates(
            query=query, first_stage=self.first_stage, top_k=top_k,
            ranking=Ranking.of([(p.passage_id, counts[at]) for p, at in zip(passages, order, strict=True)]),
            passages={passage.passage_id: passage for passage in passages},
        )  # fmt: skip


@dataclass
class ScriptedReranker:
    """Scores with a function of query and passage; counts the pairs it `read`; fails after `fail_after` pairs.

    `error` is an exception to raise, or a value to yield in place of scores.
    """

    score_of: object = lambda query, passage: float(len(passage.text) % 7)
    key: str = "fixed"
    languages: tuple = ("en",)
    fail_after: int | None = None
    error: object = field(default_factory=lambda: RuntimeError("out of memory"))
    read: int = 0
    batch: int = 8
    ends: int | None = None  # where in a passage's text it stops reading

    @property
    def spec(self):
        return spec(self.key, languages=self.languages)

    @property
    def fingerprint(self):
        return f"test/{self.key}"

    def warm_up(self, on_progress=None): ...

    def score(self, query, passages):
        scores = {}
        for batch in self.score_pairs([(query, passage) for passage in passages]):
            scores |= batch
        return [scores[at] for at in range(len(passages))]

    def score_pairs(self, pairs):
        for start in range(0, len(pairs), self.batch):
            if self.fail_after is not None and self.read >= self.fail_after:
                if isinstance(self.error, Exception):
                    raise self.error
                yield {start: self.error}
                continue
            some = pairs[start : start + self.batch]
            self.read += len(some)
            yield {start + at: self.score_of(query, passage) for at, (query, passage) in enumerate(some)}

    def readings(self, query, passages):
        return [
            Reading(min(len(p.text.split()), 512), len(p.text.split()), characters=self.ends)
            for p in passages
        ]

    def components(self, pairs):
        return {}


_NAMES = (
    "cat dog horse cow sheep goat duck hen pig donkey rabbit otter beaver mole fox wolf bear lynx seal whale"
)
ANIMALS = _NAMES.split()


def make_corpus(queries=20, passages=60, splits=None, card=None, seed=0):
    """Make a corpus whose passages name two animals each; the gold of a query is a passage with its two animals."""
    generator = np.random.default_rng(seed)
    pairs = [generator.choice(len(ANIMALS), 2, replace=False) for _ in range(passages)]
    body = [
        Passage(
            f"p{at:03}",
            f"The {ANIMALS[a]} met the {ANIMALS[b]} on day {at} and what they said is not known to us.",
            f"Day {at}",
        )
        for at, (a, b) in enumerate(pairs)
    ]
    asked = [(f"q{at:03}", int(generator.integers(passages))) for at in range(queries)]
    questions = tuple(
        Query(qid, f"When did the {ANIMALS[pairs[at][0]]} meet the {ANIMALS[pairs[at][1]]}, in case {qid}?")
        for qid, at in asked
    )
    qrels = {qid: {f"p{at:03}": 1} for qid, at in asked}
    return Corpus(
        card or CorpusCard(name="animals", language=("en",)), Path("animals"), tuple(body), questions,
        {"test": qrels} if splits is None else splits,
    )  # fmt: skip


def score_gold_first(corpus):
    """Return a `score_of` that puts the gold of each query first."""
    gold = {query.text: corpus.gold(query.query_id) for query in corpus.queries}
    return lambda query, passage: (
        5.0 if passage.passage_id in gold[query] else -float(len(passage.passage_id))
    )


def run_evaluation(corpus, *rerankers, cache=None, first_stages=(ExactRetriever,), **options):
    retrievers = [first_stage(corpus) for first_stage in first_stages]
    *_, end = evaluate(corpus, retrievers, rerankers or (ScriptedReranker(),), cache, **options)
    assert isinstance(end, Outcome)
    return end


def ranked(before, *after, also=(), top_k=10, passages=1000, reads=(("en",), ("en",)), **given):
    """An Outcome in which query i's gold stands at before[i], and at after[r][i] of reranker r; 0: nowhere.

    `also`: places (from 1) of the candidates that are gold of every query besides.
    """
    logits = np.zeros((len(after), len(before), top_k))
    for reranker, ranks in enumerate(after):
        for row, (old, new) in enumerate(zip(before, ranks, strict=True)):
            order = [column for column in range(top_k) if column != old - 1]
            order[new - 1 : new - 1] = [old - 1] if old else []
            logits[reranker, row, order] = -np.arange(top_k)
    names = [f"r{at}" for at in range(len(after))]
    queries = tuple(Query(f"q{row}", f"question {row}") for row in range(len(before)))
    return Outcome(
        corpus="made", corpus_fingerprint="f", passage_count=passages, split="test",
        stages=(
            StageOutcome(
                first_stage=FirstStageSystem(key="bag", kind="dense", score_name="cosine", embedder=Model.of(spec("bag", "embedder", languages=reads[0]))),
                places=np.tile(np.arange(top_k), (len(before), 1)),
                scores=np.tile(np.linspace(1, 0.1, top_k), (len(before), 1)),
                logits=dict(zip(names, logits, strict=True)),
            ),
        ),
        rerankers=tuple(Model.of(spec(name, languages=reads[1])) for name in names),
        top_k=top_k, top_n=5, cutoffs=(1, 5, 10), queries=queries,
        qrels={q.query_id: {f"p{at}": 1 for at in (rank or top_k + 1, *also)} for q, rank in zip(queries, before, strict=True)},
        passage_ids=tuple(f"p{at + 1}" for at in range(top_k)),
        **given,
    )  # fmt: skip


def said(outcome):
    """rule -> text, in the order of the advice."""
    return {line.rule: line.text for line in assess(outcome).advice}


def add_fusion(outcome, ranks):
    """Return the outcome with a tuned fusion in which query i's gold stands at ranks[i], at weights above the middle.

    At the other weights no gold is found, so that a weight chosen by chance would show.
    """
    grades = np.zeros((len(WEIGHTS), len(ranks), outcome.depth))
    grades[len(WEIGHTS) // 2 + 1 :, np.arange(len(ranks)), np.array(ranks) - 1] = 1
    embedder = Model.of(spec("bag", "embedder"))
    return replace(outcome, fused=FusedOutcome(key="fusion:bag+words", embedder=embedder, grades=grades))

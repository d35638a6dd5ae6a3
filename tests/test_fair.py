"""The fair fight: fused systems, measured where they were not fitted and recomputed here; and their way through a replay."""

import dataclasses
import json

import numpy as np
import pytest

from rag_inspect.errors import InputError
from rag_inspect.evaluation import Fusion
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.fusion import SEED, WEIGHTS
from rag_inspect.evaluation.systems import Latency
from rag_inspect.exports import read_replay, to_replay
from rag_inspect.options import Aim
from rag_inspect.types import Query
from tests.evaluating import (
    ExactRetriever,
    ScriptedReranker,
    WordRetriever,
    add_fusion,
    make_corpus,
    ranked,
    run_evaluation,
    score_gold_first,
)

FUSION = "fusion:bag+words"
SYSTEMS = ["bag", "bag>>fixed", "bag>>other", "words", "words>>fixed", "words>>other"]


@pytest.fixture(scope="module")
def outcome():
    """Two first stages, two rerankers and the fusion; 29 texts of 30 queries; latencies in whole milliseconds."""
    corpus = make_corpus(30)
    again = dataclasses.replace(corpus.queries[1], text=corpus.queries[0].text)
    corpus = dataclasses.replace(corpus, queries=(corpus.queries[0], again, *corpus.queries[2:]))
    retrievers, best = (ExactRetriever(corpus), WordRetriever(corpus)), score_gold_first(corpus)
    good = ScriptedReranker(
        lambda query, passage: best(query, passage) if len(query) % 4 else len(passage.text) % 5, key="other"
    )
    found = run_evaluation(
        corpus,
        ScriptedReranker(),
        good,
        first_stages=[lambda _, retriever=retriever: retriever for retriever in retrievers],
        fusion=Fusion(*retrievers),
        aim=Aim(goal="top_n", margin=0.1, budget_ms=5),
        top_k=12,
        top_n=1,
    )
    latency = {
        system.key: Latency(tuple(map(float, range(2, 14))), 13.0, None, 9, "sample")
        if system.reranker
        else Latency((1.0,), 1.0, None, 9, "sample")
        for system in found.systems
    }
    return dataclasses.replace(found, latency=latency | {FUSION: Latency((2.0,), 2.0, None, 9, "sample")})


@pytest.fixture(scope="module")
def document(outcome):
    return assess(outcome)


# The figures, with a few lines of numpy


def scale(row):
    """Scale the numbers that are there to 0..1; equal ones become 1."""
    low, high = np.nanmin(row), np.nanmax(row)
    return (row - low) / (high - low) if high > low else np.where(np.isnan(row), np.nan, 1.0)


def recall(outcome, grades):
    """Recall@1 of each query, of grades (n, K)."""
    gold = [sum(grade > 0 for grade in outcome.qrels[q.query_id].values()) for q in outcome.queries]
    return (grades[:, :1] > 0).sum(axis=1) / np.array(gold)


def blend(outcome, key, weight):
    """The grades of one system's candidates by the sum of both scores."""
    stage, reranker = outcome.find(key)
    grades = np.zeros(stage.places.shape)
    for row, (scores, logits) in enumerate(zip(stage.scores, stage.logits[reranker], strict=True)):
        there = np.flatnonzero(~np.isnan(scores))
        if there.size:
            total = ((1 - weight) * scale(scores) + weight * scale(logits)).round(12)
            best = sorted(there, key=lambda column: -total[column])
            grades[row, : there.size] = outcome.judged[stage.key].grades[row][best]
    return grades


def split(outcome):
    """The queries held out in each of 200 splits: half of the texts, drawn as the seed says."""
    generator, count = np.random.default_rng(SEED), len({query.text for query in outcome.queries})
    for _ in range(200):
        held = generator.permutation(count)[count // 2 :]
        yield np.isin(outcome.groups, held)


def tune(outcome, values, numbers):
    """(each query's mean over the splits that held it out, the mean of each split) of the weights chosen outside."""
    sums, counts, means = np.zeros(values.shape[1]), np.zeros(values.shape[1]), []
    for held in split(outcome):
        fits = [round(float(row[~held].mean()), 12) for row in values]
        chosen = max(range(len(values)), key=lambda at: (fits[at], -abs(numbers[at] - 10), -at))
        sums[held] += values[chosen][held]
        counts[held] += 1
        means.append(values[chosen][held].mean())
    return sums / counts, np.array(means)


def test_fused_rows_and_split_wins_are_what_a_few_lines_of_numpy_find(outcome, document):
    numbers = list(range(len(WEIGHTS)))
    fused = np.stack([recall(outcome, grades) for grades in outcome.fused.grades])
    pairs = [(key, weight) for key in SYSTEMS if ">>" in key for weight in WEIGHTS]
    blends = np.stack([recall(outcome, blend(outcome, *pair)) for pair in pairs])
    expected, means = {}, {}
    expected[FUSION], means[FUSION] = tune(outcome, fused, numbers)
    expected["blend"], means["blend"] = tune(outcome, blends, numbers * 4)
    assert [system.key for system in document.systems] == [*SYSTEMS, FUSION, "blend"]
    assert document.primary == "recall@1" and document.splits == 200
    for key in SYSTEMS:
        own = recall(outcome, outcome.judged_by(key).grades)
        means[key] = np.array([own[held].mean() for held in split(outcome)])
    for key, own in expected.items():
        assert document.find(key).metrics["recall@1"].value == pytest.approx(own.mean())
        shown = [row.metrics[key]["recall@1"] for row in document.per_query]
        assert shown == pytest.approx(own.tolist(), abs=1e-6)
    base = document.baseline
    assert base == max(["bag", "words", FUSION], key=lambda key: document.find(key).metrics["recall@1"].value)
    wins = {key: int((own > means[base] + 1e-9).sum()) for key, own in means.items() if key != base}
    assert {s.key: s.split_wins for s in document.systems if s.key != base} == wins
    assert document.find(base).split_wins is None and any(0 < count < 200 for count in wins.values()), wins
    written = {system["key"]: system for system in document.to_json()["systems"]}
    assert {key: written[key]["split_wins"] for key in wins} == wins
    assert [key for key in written if "weight" in written[key]] == [FUSION, "blend"]
    assert written[FUSION]["kind"] == written["blend"]["kind"] == "fused"


def test_a_fused_system_takes_the_time_of_its_parts_or_of_the_reranker(document):
    assert document.find(FUSION).latency.p50 == 2 and document.find("blend").latency.p50 == 13


@pytest.mark.parametrize(("copies", "fused"), [(0, True), (1, False), (10, False)])
def test_under_20_distinct_queries_there_are_no_fused_rows(copies, fused):
    texts = [*range(20 - min(copies, 1)), *[0] * copies]
    outcome = add_fusion(ranked([3] * len(texts), [1] * len(texts)), [2] * len(texts))
    queries = tuple(Query(f"q{row}", f"question {text}") for row, text in enumerate(texts))
    document = assess(dataclasses.replace(outcome, queries=queries))
    assert document.splits == (200 if fused else 0) and document.distinct_queries == 20 - (not fused)
    assert [s.key for s in document.systems[2:]] == ([FUSION, "blend"] if fused else [])
    assert document.baseline == (FUSION if fused else "bag")
    assert all((s.split_wins is None) != fused for s in document.systems if s.key != document.baseline)
    said = any("19 distinct queries make no halves to tune and measure on" in note for note in document.notes)
    assert said != fused


@pytest.mark.parametrize("rerankers", [1, 2, 3])
def test_of_blends_that_are_equal_the_middle_weight_of_one_system_is_chosen(rerankers):
    document = assess(ranked([2] * 20, *[[2] * 20] * rerankers))
    assert document.find("blend").weight == "bag>>r0, 0.50 of it the reranker"


# Through a replay


def read(replay):
    return read_replay(json.dumps(replay).encode())


def test_a_replay_gives_the_identical_document_with_the_fusion(outcome, document):
    again = read(to_replay(outcome))
    assert (again.fused.grades == outcome.fused.grades).all() and outcome.fused.grades.any()
    assert again.aim == outcome.aim == document.aim and again.fused.key == FUSION
    assert assess(again).to_json() == document.to_json()
    assert to_replay(again) == to_replay(outcome)


def test_a_replay_without_fusion_has_a_blend_and_says_what_is_missing(outcome):
    replay = to_replay(outcome)
    plain = replay | {"fused": None, "latency": {k: v for k, v in replay["latency"].items() if k != FUSION}}
    document = assess(read(plain))
    assert [system.key for system in document.systems] == [*SYSTEMS, "blend"]
    assert any("no tuned fusion" in note for note in document.notes)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ([21, 1, 1], "has weight 21 and rank 1; expected a weight below 21, a rank from 1 to 12"),
        ([0, 0, 1], "has weight 0 and rank 0; expected a weight below 21, a rank from 1 to 12"),
        ([0, 13, 1], "has weight 0 and rank 13; expected a weight below 21, a rank from 1 to 12"),
        ([-1, 1, 1], "[0] is -1; expected at least 0"),
        ([0, -1, 1], "[1] is -1; expected at least 0"),
        ([0, 1, -1], "[2] is -1; expected at least 0"),
        ([0, 1, 1001], "[2] is 1001; expected at most 1,000"),
        ([0.5, 1, 1], "[0] is a float; expected a whole number"),
        ([0, 1, 1.0], "[2] is a float; expected a whole number"),
        ([True, 1, 1], "[0] is a bool; expected a whole number"),
        (["0", 1, 1], "[0] is a str; expected a whole number"),
        ([0, 1], " has 2 entries; expected at least 3"),
        ([0, 1, 1, 1], " has 4 entries; expected at most 3"),
        (None, " is a NoneType; expected a list"),
    ],
)
def test_a_fused_entry_that_has_no_place_is_refused_in_words(outcome, entry, words):
    replay = json.loads(json.dumps(to_replay(outcome)))
    graded = replay["queries"][0]["fused"]
    graded.append(entry)
    with pytest.raises(InputError) as caught:
        read(replay)
    place = f"the replay: queries[0].fused[{len(graded) - 1}]"
    assert str(caught.value) in {place + words, f"{place} {words}"}


@pytest.mark.parametrize("entry", [[0, 1, 1], [0.5, "x", None]])
def test_a_million_fused_entries_are_refused_in_one_line(outcome, entry):
    replay = json.loads(json.dumps(to_replay(outcome)))
    replay["queries"][0]["fused"] = [entry] * 1_000_000
    with pytest.raises(InputError) as caught:
        read(replay)
    assert str(caught.value) == "the replay: queries[0].fused has 1,000,000 entries; expected at most 50,000"


@pytest.mark.parametrize("key", ["bag>>fixed", "", "fusion:<b>", "a/b", "x" * 300, 5, None])
def test_a_fusion_whose_name_is_none_is_refused(outcome, key):
    replay = json.loads(json.dumps(to_replay(outcome)))
    replay["fused"]["key"] = key
    with pytest.raises(InputError, match=r"^the replay: fused\.key "):
        read(replay)


@pytest.mark.parametrize("key", ["bag", "words", "blend"])
def test_a_fusion_with_the_name_of_another_system_is_refused(outcome, key):
    replay = json.loads(json.dumps(to_replay(outcome)))
    replay["fused"]["key"] = key
    with pytest.raises(
        InputError, match=f'^the replay: the document has two systems named "{key}"; expected a name of'
    ):
        read(replay)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (
            [[3, 1, 1], [3, 2, 1]],
            r"\.fused ranks 2 passages of grade 1; expected at most 1, as the query has",
        ),
        ([[3, 1, 7]], r"\.fused ranks 1 passages of grade 7; expected at most 0, as the query has"),
        ([[3, 1, 0]], r"\.fused ranks 1 passages of grade 0; expected at most 0, as the query has"),
        ([[3, 1, 1], [3, 1, 1]], r"\.fused\[1\] repeats weight 3 and rank 1; expected each place once"),
    ],
)
def test_a_fused_ranking_has_no_more_gold_than_the_query(outcome, entries, words):
    replay = json.loads(json.dumps(to_replay(outcome)))
    replay["queries"][0]["fused"] = entries
    with pytest.raises(InputError, match=f"^the replay: queries\\[0\\]{words}"):
        read(replay)

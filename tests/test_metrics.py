"""Every metric on every query, against pytrec_eval."""

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_inspect.errors import InputError
from rag_inspect.metrics import (
    NO_PASSAGE,
    Judged,
    Metric,
    grade_ranking,
    ideal_grades,
    metrics_at,
    parse,
    parse_cutoffs,
)

CUTOFFS = (1, 3, 5, 10)
THEIRS = {"recall": "recall", "precision": "P", "ndcg": "ndcg_cut", "hit": "success"}


def random_run(seed, queries=40, passages=25):
    """Rankings from scores full of ties, grades from -1 to 3; some queries have no ranking, some rankings no qrels."""
    generator = np.random.default_rng(seed)
    run, qrels = {}, {}
    for number in range(queries):
        ids = [f"p{at}" for at in generator.choice(60, passages, replace=False)]
        scores = generator.integers(0, 4, passages)
        # Ties keep the order they came in; trec_eval would reorder them by id, so it gets scores made of our ranks.
        ordered = [ids[at] for at in np.argsort(-scores, kind="stable")][
            : int(generator.integers(1, passages + 1))
        ]
        if generator.random() > 0.1:
            run[f"q{number}"] = ordered
        if generator.random() > 0.1:
            judged = generator.choice(60, 12, replace=False)
            qrels[f"q{number}"] = {f"p{at}": int(generator.integers(-1, 4)) for at in judged}
    return run, qrels


def theirs(run, qrels, measures):
    """pytrec_eval on scores that fall with our rank: with ties it would order by id (trec_eval's rule), we do not."""
    scored = {qid: {pid: float(-rank) for rank, pid in enumerate(ids)} for qid, ids in run.items()}
    return pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(scored)


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_pytrec_eval_on_every_query(seed):
    run, qrels = random_run(seed)
    depths = ",".join(map(str, CUTOFFS))
    expected = theirs(run, qrels, {f"{name}.{depths}" for name in THEIRS.values()})
    assert len(expected) > 25
    for qid, values in expected.items():
        for measure, name in THEIRS.items():
            for cutoff in CUTOFFS:
                ours = Metric(measure, cutoff).of(run[qid], qrels[qid])
                assert ours == pytest.approx(values[f"{name}_{cutoff}"], abs=1e-9), (qid, measure, cutoff)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_mrr_at_k_is_pytrec_evals_reciprocal_rank_of_a_run_cut_at_k(seed, cutoff):
    run, qrels = random_run(seed)
    cut = {qid: ids[:cutoff] for qid, ids in run.items()}
    for qid, values in theirs(cut, qrels, {"recip_rank"}).items():
        assert Metric("mrr", cutoff).of(run[qid], qrels[qid]) == pytest.approx(values["recip_rank"], abs=1e-9)


def test_many_rankings_at_once_are_each_as_alone():
    run, qrels = random_run(3)
    shared = [qid for qid in run if qid in qrels]
    grades = np.full((len(shared), 25), NO_PASSAGE)
    for row, qid in enumerate(shared):
        grades[row, : len(run[qid])] = grade_ranking(run[qid], qrels[qid])
    judged = Judged(grades, *ideal_grades((qrels[qid] for qid in shared), 25))
    for metric in metrics_at(CUTOFFS):
        alone = [metric.of(run[qid], qrels[qid]) for qid in shared]
        assert metric.values(judged) == pytest.approx(alone, abs=1e-12), metric


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 15))
@settings(max_examples=60)
def test_a_perfect_order_is_never_worse_and_no_value_leaves_0_to_1(grades, cutoff):
    judged = Judged(
        np.array([grades], dtype=float), *ideal_grades([{str(at): g for at, g in enumerate(grades)}], 15)
    )
    for measure in ("recall", "precision", "mrr", "ndcg", "hit"):
        metric = Metric(measure, cutoff)
        ours, best = metric.values(judged)[0], metric.values(judged.best_first)[0]
        assert 0 <= ours <= best + 1e-12 and best <= 1 + 1e-12
    if any(grades):
        assert Metric("ndcg", cutoff).values(judged.best_first)[0] == pytest.approx(1)


@pytest.mark.parametrize("gold_grade", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_from_a_gold_grade_on_it_is_pytrec_eval_with_that_relevance_level(seed, gold_grade):
    run, qrels = random_run(seed)
    scored = {qid: {pid: float(-rank) for rank, pid in enumerate(ids)} for qid, ids in run.items()}
    shared = [qid for qid in run if qid in qrels]
    names = {f"{name}.5" for name in THEIRS.values()}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, names | {"recip_rank"}, relevance_level=gold_grade)
    expected = evaluator.evaluate(scored)
    width = max(map(len, run.values()))
    rows = [grade_ranking(run[qid], qrels[qid]) for qid in shared]
    grades = np.array([row + [NO_PASSAGE] * (width - len(row)) for row in rows])
    ideal = ideal_grades([qrels[qid] for qid in shared], width, gold_grade)
    judged = Judged(grades, *ideal, gold_grade)
    for measure, name in THEIRS.items():
        ours = Metric(measure, 5).values(judged)
        assert ours == pytest.approx([expected[qid][f"{name}_5"] for qid in shared], abs=1e-9), measure
    ranks = Metric("mrr", width).values(judged)
    assert ranks == pytest.approx([expected[qid]["recip_rank"] for qid in shared], abs=1e-9)


def test_judged_is_the_share_of_the_passages_that_are_there():
    grades = {"a": 0, "b": 2, "c": -1}
    assert parse("judged@2").of(["a", "x", "b"], grades) == 0.5
    assert parse("judged@5").of(["a", "x", "c"], grades) == pytest.approx(2 / 3), (
        "the end is nobody's to judge"
    )
    assert parse("judged@5").of([], grades) == 0


def test_a_query_with_no_gold_found_scores_nought_and_one_with_no_candidates_too():
    assert parse("ndcg@10").of(["a", "b"], {"z": 2}) == 0
    assert parse("mrr@5").of([], {"z": 2}) == 0


@pytest.mark.parametrize(
    ("text", "printed", "label"),
    [("ndcg@10", "ndcg@10", "nDCG@10"), (" MRR@5 ", "mrr@5", "MRR@5"), ("P@3", "precision@3", "precision@3"),
     ("Success@1", "hit@1", "hit@1"), ("rr@7", "mrr@7", "MRR@7")],
)  # fmt: skip
def test_a_metric_prints_as_it_is_parsed(text, printed, label):
    assert str(parse(text)) == printed and parse(printed) == parse(text) and parse(text).label == label
    assert str(parse(text).cutoff) in parse(text).tooltip


@pytest.mark.parametrize(
    "text", ["", "ndcg", "ndcg@0", "ndcg@-1", "map@5", "ndcg@1.5", "ndcg@99999", "@5", "ndcg@10; drop"]
)
def test_what_is_no_metric_is_told_what_there_is(text):
    with pytest.raises(InputError, match="expected recall@k"):
        parse(text)


def test_cutoffs_are_sorted_and_each_once():
    assert parse_cutoffs("10, 1,5,5") == (1, 5, 10)
    for wrong in ("", "a", "0", "1,,2", "5000", "-1", None, 10, [1.9, 5], [float("inf")], [None]):
        with pytest.raises(InputError, match="whole numbers from 1"):
            parse_cutoffs(wrong)

"""The decision of an evaluation: what to use, how deep, within which time, and that all parts of the document agree."""

import dataclasses
import json
import re
from html import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_inspect.errors import InputError
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.decision import FEW_QUERIES, count_queries
from rag_inspect.evaluation.systems import Latency
from rag_inspect.metrics import parse
from rag_inspect.options import Aim
from rag_inspect.significance import intervals
from rag_inspect.types import Query
from rag_inspect.views.report import report_html
from tests.evaluating import add_fusion, ranked

STEPS = tuple(float(ms) for ms in range(10, 110, 10))  # of a reranker, at depths 1 to 10
TIMED = {
    "bag": Latency((2.0,), 2.0, None, 9, "sample"),
    "bag>>r0": Latency(STEPS, 100.0, None, 9, "sample"),
}


def decide(before, *after, fused=None, aim=None, **given):
    """Return the decision about these ranks of the gold; `fused`: its ranks in a tuned fusion."""
    return document_of(before, *after, fused=fused, aim=aim, **given).decision


def document_of(before, *after, fused=None, aim=None, **given):
    outcome = ranked(before, *after, **given)
    outcome = add_fusion(outcome, fused) if fused else outcome
    return assess(dataclasses.replace(outcome, aim=aim or Aim()))


# The verdict


def test_where_tuned_fusion_beats_the_reranker_the_decision_is_to_leave_it_out():
    decision = decide([3] * 40, [2] * 40, fused=[1] * 40)
    assert (decision.verdict, decision.use, decision.depth) == ("leave_out", "fusion:bag+words", None)
    assert (decision.system, decision.baseline) == ("bag>>r0", "fusion:bag+words")
    assert decision.change.delta == pytest.approx(-0.5) and decision.change.ci95[1] < 0
    assert decision.reason.startswith(
        "Leave the reranker out and use fusion:bag+words: bag>>r0 is worse: MRR@5 -0.500 (95 % interval -0.5"
    )
    assert decision.depth_kept == "" and decision.kept_gain is decision.kept_cost is None


def test_where_the_reranker_beats_tuned_fusion_the_decision_is_to_use_it():
    decision = decide([4] * 40, [1] * 40, fused=[2] * 40)
    assert (decision.verdict, decision.use, decision.depth) == ("use", "bag>>r0", 4)
    assert decision.baseline == "fusion:bag+words" and decision.change.delta == pytest.approx(0.5)
    assert decision.reason.startswith("Use bag>>r0, reranking 4: it has MRR@5 +0.500 (95 % interval +0.4")
    assert decision.reason.endswith("against fusion:bag+words, the best without a reranker.")


def test_a_fusion_that_is_worse_than_the_first_stage_is_no_baseline():
    assert decide([2] * 40, [1] * 40, fused=[3] * 40).baseline == "bag"
    assert decide([2] * 40, [1] * 40, fused=[2] * 40).baseline == "bag", "of equals the first"


def test_noisy_queries_leave_it_undecided_and_the_reranker_out():
    chance = np.random.default_rng(1)
    before = chance.integers(1, 11, 40).tolist()
    after = [int(np.clip(rank + chance.integers(-3, 3), 1, 10)) for rank in before]
    decision = decide(before, after)
    low, high = decision.change.ci95
    assert low < 0 < decision.margin < decision.change.delta < high and decision.verdict == "undecided"
    assert (decision.use, decision.depth) == ("bag", None), "nobody has seen a gain"
    assert decision.reason.startswith(
        "Undecided: bag>>r0 may gain more or less than your margin of 0.02: MRR@5"
    )
    assert (
        f"40 queries can detect a change of {decision.change.resolvable:.3f}: judge more, and use bag meanwhile."
        in decision.reason
    )


def test_a_sure_gain_that_may_be_below_the_margin_is_undecided_but_used():
    decision = decide([2] * 12 + [1] * 48, [1] * 60, aim=Aim(margin=0.1))
    low, high = decision.change.ci95
    assert 0 < low < 0.1 < high and decision.verdict == "undecided"
    assert (decision.use, decision.depth) == ("bag>>r0", 2)
    assert "bag>>r0 is better, but perhaps by less than your margin of 0.1:" in decision.reason


@pytest.mark.parametrize("queries", [FEW_QUERIES - 1, FEW_QUERIES])
def test_fewer_than_25_distinct_queries_decide_nothing(queries):
    decision = decide([3] * queries, [1] * queries)
    assert decision.change.ci95[0] > decision.margin
    if queries < FEW_QUERIES:
        assert (decision.verdict, decision.use) == ("undecided", "bag")
        assert decision.reason.startswith("Only 24 distinct queries: judge at least 25 before you decide.")
    else:
        assert (decision.verdict, decision.use) == ("use", "bag>>r0")


def test_copies_of_a_query_do_not_make_enough_of_them():
    outcome = ranked([3] * 48, [1] * 48)
    twice = tuple(Query(f"q{row}", f"question {row // 2}") for row in range(48))
    decision = assess(dataclasses.replace(outcome, queries=twice)).decision
    assert decision.verdict == "undecided" and decision.counts.queries == 48
    assert decision.reason.startswith("Only 24 distinct queries:")


@settings(max_examples=12)
@given(
    margin=st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.5]),
    ranks=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=25, max_size=35),
)
def test_the_verdict_is_where_the_interval_lies_beside_the_margin(margin, ranks):
    before, after = zip(*ranks, strict=True)
    outcome = dataclasses.replace(ranked(before, after, top_k=6), aim=Aim(margin=margin))
    decision = assess(outcome).decision
    first, second = (parse("mrr@5").values(outcome.judged_by(key)) for key in ("bag", "bag>>r0"))
    [(low, high)] = intervals((second - first)[:, None], -1.0, 1.0).tolist()
    assert decision.change.ci95 == pytest.approx((low, high))
    expected = "use" if low > margin else "leave_out" if high < margin else "undecided"
    assert decision.verdict == expected
    assert (decision.use == "bag>>r0") == (low > margin or (low > 0 and high >= margin))


# What reaches the reader


@settings(max_examples=60)
@given(
    ranks=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), min_size=1, max_size=12),
    also=st.sets(st.integers(1, 8), max_size=3),
    top_n=st.integers(1, 8),
)
def test_queries_are_counted_as_a_loop_over_them_counts(ranks, also, top_n):
    outcome = ranked(*zip(*ranks, strict=True), also=also, top_k=8)
    gained = lost = risen = fallen = hit_before = hit_after = 0
    befores, afters = dict(outcome.run("bag")), dict(outcome.run("bag>>r0"))
    for query, grades in outcome.qrels.items():
        before, after = befores[query].passage_ids, afters[query].passage_ids
        had, has = (sum(pid in grades for pid in ids[:top_n]) for ids in (before, after))
        hit_before, hit_after = hit_before + (had > 0), hit_after + (has > 0)
        if had != has:
            gained, lost = gained + (has > had), lost + (has < had)
        elif had:
            was, now = (next(at for at, pid in enumerate(ids) if pid in grades) for ids in (before, after))
            risen, fallen = risen + (now < was), fallen + (now > was)
    counts = count_queries(outcome.judged_by("bag"), outcome.judged_by("bag>>r0"), top_n)
    assert (counts.gained, counts.lost, counts.risen, counts.fallen) == (gained, lost, risen, fallen)
    assert counts.queries == len(ranks)
    assert counts.hit_before == pytest.approx(hit_before / len(ranks))
    assert counts.hit_after == pytest.approx(hit_after / len(ranks))


def test_the_counts_are_against_the_baseline_and_in_words_and_json():
    before, after = [7, 3, 2, 2, 1], [1, 6, 1, 5, 1]
    decision = decide(before * 5, after * 5)
    assert decision.counted == (
        "bag>>r0 against bag: of 25 queries, 5 gain a gold passage in the top 5 and 5 lose one; "
        "inside the top 5, 5 rise and 5 fall."
    )
    written = decision.to_json()
    assert [written[name] for name in ("queries", "gained", "lost", "risen", "fallen")] == [25, 5, 5, 5, 5]
    assert written["hit_at_n"] == {"before": 0.8, "after": 0.8} and written["top_n"] == 5
    assert written["change"]["delta"] == pytest.approx(decision.change.delta)
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    against_fusion = decide(before * 5, after * 5, fused=[1] * 25)
    assert against_fusion.counts.lost == 5 and against_fusion.counts.gained == 0
    assert decide([7, *[1] * 24], [1] * 25).counted.count("1 gains a gold passage") == 1


# The depth


@pytest.fixture(scope="module")
def spread():
    """Most gold is near the front already, so the last depths gain little; the second reranker is faster and worse."""
    chance = np.random.default_rng(3)
    before = np.minimum(chance.geometric(0.3, 120), 10).tolist()
    after, worse = ([int(max(1, rank - chance.integers(0, most))) for rank in before] for most in (9, 5))
    latency = TIMED | {"bag>>r1": Latency(tuple(ms / 2 for ms in STEPS), 50.0, None, 9, "sample")}
    outcome = ranked(before, after, worse, also=[2, 9], latency=latency)
    return dataclasses.replace(outcome, aim=Aim(margin=0.05))


def test_the_depth_is_the_cheapest_whose_loss_is_surely_below_the_margin(spread):
    document = assess(spread)
    reranked = [point for point in document.frontier if point.depth]
    best = max(reranked, key=lambda point: (point.metrics["mrr@5"], point.metrics["recall@5"]))
    enough = []
    for point in reranked:
        bounds = []
        for name in ("mrr@5", "recall@5"):
            high, own = (
                parse(name).values(spread.judged_by(each.system, each.depth)) for each in (best, point)
            )
            bounds.append(0.0 if point == best else intervals((high - own)[:, None], -1.0, 1.0)[0, 1])
        assert point.equivalent == (max(bounds) < 0.05), (point.system, point.depth)
        enough += [point] if max(bounds) < 0.05 else []
    chosen = min(enough, key=lambda point: point.latency_ms)
    assert 2 < len(enough) < len(reranked) and chosen.depth < 10
    decision = document.decision
    assert decision.verdict == "use" and (decision.use, decision.depth) == (chosen.system, chosen.depth)
    full = next(point for point in reranked if (point.system, point.depth) == (chosen.system, 10))
    first = document.find("bag").metrics["mrr@5"].value
    assert decision.kept_cost == pytest.approx(chosen.latency_ms / full.latency_ms)
    assert decision.kept_gain == pytest.approx(
        (chosen.metrics["mrr@5"] - first) / (full.metrics["mrr@5"] - first)
    )
    assert decision.latency_ms == chosen.latency_ms


def read_names(document):
    """The point in the ring, in the decision, in its JSON, in the first advice and in the report."""
    [ring] = [point for point in document.frontier if point.cheapest]
    decision, first = document.decision, document.advice[0]
    assert first.rule == "decision" and first.text == decision.reason
    assert escape(decision.reason) in report_html(document, dict.fromkeys(document.thresholds, "logit"))
    named = re.match(r"(?:Use|Leave the reranker out and use) ([^ ,]+?)(?:, reranking (\d+))?: ", first.text)
    written = document.to_json()
    assert [p for p in written["frontier"] if p["cheapest"]] == [ring.to_json()]
    assert (named[1], int(named[2] or 0)) == (ring.system, ring.depth)
    return {
        (ring.system, ring.depth),
        (decision.use, decision.depth or 0),
        (written["decision"]["use"], written["decision"]["depth"] or 0),
    }


def test_ring_decision_advice_and_report_name_the_same_point(spread):
    assert len(read_names(assess(spread))) == 1
    assert read_names(document_of([4] * 30, [1] * 30, fused=[2] * 30)) == {("bag>>r0", 4)}
    assert read_names(document_of([3] * 30, [2] * 30, fused=[1] * 30)) == {("fusion:bag+words", 0)}
    assert read_names(document_of([1] * 30, [2] * 30)) == {("bag", 0)}


def test_of_rerankers_with_the_same_numbers_the_cheaper_one_is_used():
    before, after = [4] * 60, [1] * 60
    slow, fast = (Latency(tuple(ms * k for ms in STEPS), 100.0 * k, None, 9, "sample") for k in (2, 1))
    timed = {"bag": TIMED["bag"], "bag>>r0": slow, "bag>>r1": fast}
    decision = decide(before, after, after, latency=timed)
    assert (decision.use, decision.depth, decision.latency_ms) == ("bag>>r1", 4, 40.0)
    untimed = ranked(before, after, after)
    small = dataclasses.replace(untimed.rerankers[1], parameters=1_000)
    smaller = assess(dataclasses.replace(untimed, rerankers=(untimed.rerankers[0], small)))
    assert smaller.decision.use == "bag>>r1" and smaller.decision.latency_ms is None
    worse = decide(before, after, [3] * 60, latency=timed)
    assert (worse.use, worse.latency_ms) == ("bag>>r0", 80.0)


def test_a_depth_with_the_same_first_gold_but_less_recall_is_not_enough():
    outcome = ranked([3] * 60, [1] * 60, also=[9])
    [stage] = outcome.stages
    logits = stage.logits["r0"].copy()
    logits[:, 8] = -0.5  # the second gold comes second, from depth 9 on
    stage = dataclasses.replace(stage, logits={"r0": logits})
    document = assess(dataclasses.replace(outcome, stages=(stage,)))
    points = {point.depth: point.metrics for point in document.frontier}
    assert points[3]["mrr@5"] == points[9]["mrr@5"] == 1 and points[3]["recall@5"] == 0.5
    assert document.decision.depth == 9


def test_depths_are_not_equal_because_nobody_could_tell_them_apart():
    before = [1] * 26 + [4] * 24 + [8, 9]
    points = {point.depth: point for point in document_of(before, [1] * 52).frontier}
    assert points[9].equivalent and points[9].cheapest
    assert points[9].metrics["mrr@5"] - points[8].metrics["mrr@5"] < 0.02 and not points[8].equivalent


# The budget and the aim


def spend(budget_ms, **given):
    timed = {"latency": TIMED} | given
    return decide([4] * 30, [1] * 30, aim=Aim(budget_ms=budget_ms), **timed)


@pytest.mark.parametrize(
    ("budget_ms", "use", "depth", "words"),
    [
        (1, None, None, "Within 1 ms: nothing that was measured."),
        (2, "bag", None, "Within 2 ms: bag, without a reranker."),
        (39, "bag", None, "Within 39 ms: bag, without a reranker."),
        (40, "bag>>r0", 4, "Within 40 ms: rerank 4 in bag>>r0 (MRR@5 +0.750, 40 ms)."),
        (1000, "bag>>r0", 4, "Within 1,000 ms: rerank 4 in bag>>r0 (MRR@5 +0.750, 40 ms)."),
    ],
)
def test_the_best_within_the_budget_is_named(budget_ms, use, depth, words):
    decision = spend(budget_ms)
    assert (decision.budget.use, decision.budget.depth, decision.spent) == (use, depth, words)
    assert decision.to_json()["budget"]["budget_ms"] == budget_ms


def test_without_a_budget_none_is_spent_and_what_nobody_timed_fits_none():
    assert spend(None).budget is None and spend(None).spent == "" and spend(None).to_json()["budget"] is None
    assert spend(1000, latency={}).budget.use is None
    fusion = TIMED | {"fusion:bag+words": Latency((3.0,), 3.0, None, 9, "sample")}
    assert spend(5, fused=[2] * 30, latency=fusion).budget.use == "fusion:bag+words"


def deep(gold, budget_ms, **given):
    """A reranker that finds the gold only when it reads 4 candidates; at less, it puts another first."""
    outcome = ranked([1 if at < 10 else 4 for at in range(40)], [1] * 40, **({"latency": TIMED} | given))
    [stage] = outcome.stages
    logits = stage.logits["r0"].copy()
    logits[:10, 1] = 1.0  # these queries lose the first place at depth 2 and 3
    logits[:10, 0] = gold
    stage = dataclasses.replace(stage, logits={"r0": logits})
    outcome = dataclasses.replace(outcome, stages=(stage,), aim=Aim(budget_ms=budget_ms))
    return assess(outcome)


@pytest.mark.parametrize("budget_ms", [5, 15, 25, 39])
def test_within_a_budget_only_what_is_surely_better_than_the_baseline_is_used(budget_ms):
    document = deep(0.5, budget_ms)
    decision = document.decision
    assert decision.verdict == "use" and decision.change.ci95[0] > 0.02, "at full depth it would pay"
    assert (decision.use, decision.depth, decision.kept_gain) == ("bag", None, None)
    assert "no depth of it that is surely better fits into the budget" in decision.reason
    assert decision.spent == f"Within {budget_ms} ms: bag, without a reranker." and decision.depth_kept == ""


def test_the_sentence_the_counts_and_the_budget_are_about_the_recommended_depth():
    document = deep(0.5, 45)
    decision = document.decision
    [point] = [point for point in document.frontier if point.cheapest]
    assert (decision.use, decision.depth, point.depth) == ("bag>>r0", 4, 4)
    assert decision.lift == pytest.approx(point.lift) and decision.budget.lift == decision.lift
    assert f"reranking 4: it has MRR@5 {point.lift:+.3f}" in decision.reason
    assert decision.counted.startswith("bag>>r0 reranking 4 against bag: of 40 queries, ")
    assert decision.counts == count_queries(*(deep_judged(depth) for depth in (None, 4)), 5)
    limited = document_of([4] * 20 + [9] * 20, [1] * 40, aim=Aim(budget_ms=50), latency=TIMED).decision
    assert (limited.use, limited.depth) == ("bag>>r0", 4)
    assert limited.reason.endswith(
        "The best, bag>>r0 reranking 10, has +0.875 and does not fit into the budget."
    )
    assert limited.lift < limited.change.delta


def deep_judged(depth):
    outcome = ranked([1 if at < 10 else 4 for at in range(40)], [1] * 40)
    [stage] = outcome.stages
    logits = stage.logits["r0"].copy()
    logits[:10, 1], logits[:10, 0] = 1.0, 0.5
    outcome = dataclasses.replace(outcome, stages=(dataclasses.replace(stage, logits={"r0": logits}),))
    return outcome.judged_by("bag>>r0", depth) if depth else outcome.judged_by("bag")


def test_what_nobody_timed_fits_into_no_budget():
    untimed = decide([4] * 30, [1] * 30, aim=Aim(budget_ms=300), latency={})
    assert (untimed.use, untimed.depth) == (
        "bag",
        None,
    ) and untimed.spent == "Within 300 ms: nothing that was measured."
    assert decide([4] * 30, [1] * 30, latency={}).use == "bag>>r0"


def test_a_baseline_too_slow_for_the_budget_gives_way_to_what_fits():
    slow = TIMED | {"fusion:bag+words": Latency((30.0,), 30.0, None, 9, "sample")}
    decision = spend(5, fused=[2] * 30, latency=slow)
    assert (decision.use, decision.baseline) == ("bag", "fusion:bag+words")
    assert decision.spent == "Within 5 ms: bag, without a reranker."


def test_the_goal_names_the_metric_that_decides():
    before, after = [7] * 30, [5] * 30
    first, top = (document_of(before, after, aim=Aim(goal=goal)) for goal in ("first_answer", "top_n"))
    assert (first.primary, top.primary) == ("mrr@5", "recall@5")
    assert (first.decision.change.delta, top.decision.change.delta) == (pytest.approx(0.2), 1)
    assert "has recall@5 +1.000" in top.decision.reason and "has MRR@5 +0.200" in first.decision.reason
    assert top.decision.metric == "recall@5" and top.to_json()["aim"]["goal"] == "top_n"
    assert decide([3] * 30, [1] * 30, aim=Aim(goal="top_n")).change.delta == 0


def test_a_margin_at_either_end_decides_by_it():
    before, after = [4] * 30, [1] * 30  # +0.75
    for margin in (0, 0.5):
        decision = decide(before, after, aim=Aim(margin=margin))
        assert (decision.verdict, decision.depth, decision.margin) == ("use", 4, margin)
    half = decide([2] * 30, after, aim=Aim(margin=0.5))  # exactly the margin: neither above nor below
    assert half.verdict == "undecided" and half.change.delta == 0.5
    assert "perhaps by less than your margin of 0.5" in half.reason
    small = decide([2] * 10 + [1] * 20, after, aim=Aim(margin=0.5))
    assert small.verdict == "leave_out" and small.change.ci95[0] > 0
    assert "bag>>r0 gains less than your margin of 0.5: MRR@5 +0.167" in small.reason
    assert decide(after, after, aim=Aim(margin=0)).verdict == "undecided"
    assert decide(after, [2] * 30, aim=Aim(margin=0)).verdict == "leave_out"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"goal": "mrr"}, "goal is 'mrr'; expected first_answer or top_n"),
        ({"goal": None}, "goal is None; expected first_answer or top_n"),
        ({"goal": ["top_n"]}, "goal is ['top_n']; expected first_answer or top_n"),
        ({"margin": "0.1"}, "margin is '0.1'; expected a number from 0 to 0.5"),
        ({"margin": float("nan")}, "margin is nan; expected a number from 0 to 0.5"),
        ({"margin": -0.01}, "margin is -0.01; expected a number from 0 to 0.5"),
        ({"margin": 0.51}, "margin is 0.51; expected a number from 0 to 0.5"),
        ({"margin": True}, "margin is True; expected a number from 0 to 0.5"),
        ({"margin": None}, "margin is None; expected a number from 0 to 0.5"),
        ({"budget_ms": 0}, "budget_ms is 0; expected a number from 1 to "),
        ({"budget_ms": "300"}, "budget_ms is '300'; expected a number from 1 to "),
        ({"budget_ms": float("nan")}, "budget_ms is nan; expected a number from 1 to "),
        ({"budget_ms": float("inf")}, "budget_ms is inf; expected a number from 1 to "),
        ({"budget_ms": False}, "budget_ms is False; expected a number from 1 to "),
    ],
)
def test_an_aim_that_means_nothing_is_refused_in_one_line(wrong, words):
    with pytest.raises(InputError) as caught:
        Aim(**wrong)
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)

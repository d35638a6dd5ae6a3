"""The document made of an evaluation: its numbers, its frontier, its advice."""

import dataclasses
import json

import numpy as np
import pytest

from rag_inspect.corpora.language import find_languages, guess_language
from rag_inspect.evaluation import evaluate
from rag_inspect.evaluation.advice import RULES, is_significant
from rag_inspect.evaluation.assessment import assess
from rag_inspect.evaluation.document import sort_worst_first
from rag_inspect.evaluation.systems import Latency
from rag_inspect.metrics import grade_ranking, parse
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import VERDICTS, CorpusCard, Passage, Query, Ranking
from rag_inspect.views.evaluation import ceiling_html
from rag_inspect.views.report import report_html
from tests.evaluating import (
    BagEmbedder,
    ExactRetriever,
    ScriptedReranker,
    make_corpus,
    ranked,
    run_evaluation,
    said,
    score_gold_first,
)

NAMES = {"bag>>fixed": "logit", "bag>>r0": "logit", "bag>>worse": "logit"}


def test_the_documents_metrics_are_those_of_its_rankings_one_by_one():
    corpus = make_corpus(25)
    outcome = run_evaluation(corpus, ScriptedReranker(), top_k=10)
    document = assess(outcome)
    *ranked_ones, blend = document.systems
    assert blend.kind == "fused"  # it has no one ranking; test_fair.py computes its numbers
    for system in ranked_ones:
        rankings = dict(outcome.run(system.key))
        for name, metric in system.metrics.items():
            alone = [
                parse(name).of(rankings[qid].passage_ids, grades) for qid, grades in outcome.qrels.items()
            ]
            assert metric.value == pytest.approx(np.mean(alone))
            assert metric.ci95[0] <= metric.value <= metric.ci95[1]


def test_the_document_keeps_the_contract():
    document = assess(
        run_evaluation(
            make_corpus(25), ScriptedReranker(), ScriptedReranker(lambda q, p: 1.0, key="flat"), top_k=20
        )
    ).to_json()
    named = {
        "corpus",
        "first_stages",
        "aim",
        "decision",
        "baseline",
        "splits",
        "top_k",
        "queries",
        "systems",
        "ceilings",
        "verdicts",
        "per_query",
    }
    assert named <= set(document) and document["version"] == 2
    *others, blend = document["systems"]
    assert [system["key"] for system in others] == ["bag", "bag>>fixed", "bag>>flat"]
    assert [(s["first_stage"], s["reranker"], s["kind"]) for s in others] == [
        ("bag", None, "first_stage"), ("bag", "fixed", "reranked"), ("bag", "flat", "reranked"),
    ]  # fmt: skip
    assert (blend["key"], blend["kind"]) == ("blend", "fused") and "of it the reranker" in blend["weight"]
    assert "versus_first_stage" not in blend and "versus_best" not in blend
    assert document["decision"]["baseline"] == document["baseline"] == "bag"
    assert [system["split_wins"] is None for system in document["systems"]] == [True, False, False, False]
    assert "versus_first_stage" not in document["systems"][0]
    for system in document["systems"]:
        assert {"key", "revision", "metrics", "latency_ms"} <= set(system) and set(system["latency_ms"]) == {
            "p50",
            "p95",
        }
        assert {"recall@5", "mrr@5", "ndcg@10", "hit@1"} <= set(system["metrics"])
    for system in others[1:]:
        assert {"delta", "ci95", "p_value", "wins", "ties", "losses"} <= set(
            system["versus_first_stage"]["mrr@5"]
        )
    assert next(iter(document["ceilings"]["bag"])) == "recall@20"
    assert tuple(document["verdicts"]) == VERDICTS
    assert sum(document["verdicts"].values()) == document["queries"] == len(document["per_query"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_a_reranker_that_ties_everything_changes_nothing():
    document = assess(run_evaluation(make_corpus(25), ScriptedReranker(lambda q, p: 1.0), top_k=10))
    change = document.systems[1].versus_first_stage["mrr@5"]
    assert change.delta == 0 and change.ties == 25 and change.p_value == 1
    assert document.systems[0].metrics == document.systems[1].metrics


def test_recall_is_achieved_and_recoverable_and_unreachable_and_no_reranker_passes_the_ceiling():
    corpus = make_corpus(40)
    document = assess(
        run_evaluation(
            corpus, ScriptedReranker(score_gold_first(corpus)), ScriptedReranker(key="worse"), top_k=8
        )
    )
    for bar in document.ceiling_bars:
        assert bar.achieved + bar.recoverable + bar.unreachable == pytest.approx(1)
        assert bar.does_not_fit == 0
    assert "does not fit" not in ceiling_html(document) + report_html(document, NAMES)
    perfect = document.ceiling_bars[1]
    assert perfect.recoverable == pytest.approx(0)
    for system in document.systems:
        for name, metric in system.metrics.items():
            assert metric.value <= document.ceilings["bag"][name] + 1e-12


def test_gold_that_no_top_n_can_hold_is_a_part_of_its_own_and_not_out_of_reach():
    all_found = ranked([1] * 30, [1] * 30, also=range(2, 16), top_k=20)  # 15 gold, all among the first 15
    bar = assess(all_found).ceiling_bars[1]
    assert bar.achieved == pytest.approx(1 / 3) and bar.does_not_fit == pytest.approx(2 / 3)
    assert bar.recoverable == bar.unreachable == 0 and "recall_first" not in said(all_found)
    half_away = ranked([0] * 30, [0] * 30, also=[1, 40, 41, 42, 43, 44, 45, 46, 47], top_k=20)  # 1 of 10 gold
    document = assess(half_away)
    bar = document.ceiling_bars[1]
    assert bar.unreachable == pytest.approx(0.4) and bar.does_not_fit == pytest.approx(0.5)
    assert sum(
        getattr(bar, name) for name in ("achieved", "recoverable", "unreachable", "does_not_fit")
    ) == pytest.approx(1)
    assert "40% of recall@5 is out of reach" in said(half_away)["recall_first"]
    assert "does not fit 50" in ceiling_html(document) and "does not fit 50" in report_html(document, NAMES)
    assert "does_not_fit" not in ceiling_html(document) + report_html(document, NAMES)


def test_a_judged_query_without_gold_among_its_candidates_counts_as_nought():
    corpus = make_corpus(10)
    far = {query.query_id: {"not-in-the-corpus": 1} for query in corpus.queries[:5]}
    splits = {"test": {**corpus.splits["test"], **far}}
    document = assess(run_evaluation(dataclasses.replace(corpus, splits=splits), top_k=60))
    assert document.queries == 10 and document.verdicts["unreachable"] == 5
    assert document.systems[0].metrics["recall@5"].value <= 0.5 == document.ceilings["bag"]["recall@60"]
    assert any("1 gold id is not in the corpus" in note for note in document.notes)


def test_queries_without_judgements_or_gold_are_left_out_and_counted():
    corpus = make_corpus(10)
    qrels = dict(corpus.splits["test"])
    del qrels["q000"], qrels["q001"]
    qrels["q002"] = {"p000": 0, "p001": -1}
    document = assess(run_evaluation(dataclasses.replace(corpus, splits={"test": qrels})))
    assert document.queries == 7 and document.left_out == {"unjudged": 2, "without_gold": 1}


def test_gold_that_stands_twice_in_the_corpus_is_noted():
    corpus = make_corpus(10)
    gold = next(iter(corpus.gold(corpus.queries[0].query_id)))
    twin = Passage("twin", corpus.passage_by_id[gold].text, corpus.passage_by_id[gold].title)
    doubled = dataclasses.replace(corpus, passages=(*corpus.passages, twin))
    notes = assess(run_evaluation(doubled, top_k=20)).notes
    assert any(note.startswith("1 gold passage has a duplicate that is not gold") for note in notes)
    both = {
        query: {pid: 1 for pid in (*grades, *(["twin"] if gold in grades else []))}
        for query, grades in corpus.splits["test"].items()
    }
    judged = dataclasses.replace(doubled, splits={"test": both})
    assert not any("twin" in note for note in assess(run_evaluation(judged, top_k=20)).notes)


def test_one_query_and_a_top_k_beyond_the_corpus():
    document = assess(run_evaluation(make_corpus(1, passages=6), top_k=50))
    assert document.queries == 1 and document.systems[1].metrics["mrr@5"].ci95 == (0, 1)
    assert "Only 1 distinct query" in document.advice[0].text
    assert any("One query says nothing" in note for note in document.notes)


def test_the_frontier_begins_at_the_first_stage_ends_at_the_whole_and_marks_one():
    corpus = make_corpus(80)
    outcome = run_evaluation(corpus, ScriptedReranker(score_gold_first(corpus)), top_k=15)
    document = assess(outcome)
    points = document.frontier
    assert [point.depth for point in points] == list(range(16))
    first, whole = (
        document.systems[0].metrics["mrr@5"].value,
        document.systems[1].metrics["mrr@5"].value,
    )
    assert points[0].metrics["mrr@5"] == points[1].metrics["mrr@5"] == pytest.approx(first)
    assert points[-1].metrics["mrr@5"] == pytest.approx(whole)
    values = [point.metrics["mrr@5"] for point in points]
    assert values == sorted(values)  # this reranker score_gold_first the gold: deeper is never worse
    [cheapest] = [point for point in points if point.cheapest]
    assert (cheapest.system, cheapest.depth) == (document.decision.use, document.decision.depth)
    assert cheapest.metrics["mrr@5"] == points[-1].metrics["mrr@5"] and not points[0].equivalent
    depth_3 = outcome.judged_by("bag>>fixed", 3)
    for row, (_, ranking) in enumerate(outcome.run("bag")):
        ids, logits = (
            ranking.passage_ids,
            dict(zip(ranking.passage_ids, outcome.stages[0].logits["fixed"][row], strict=True)),
        )
        order = [*sorted(ids[:3], key=lambda pid: -logits[pid]), *ids[3:]]
        assert depth_3.grades[row].tolist() == grade_ranking(
            order, outcome.qrels[outcome.queries[row].query_id]
        )


def test_the_flow_and_the_thresholds_add_up():
    document = assess(run_evaluation(make_corpus(50), ScriptedReranker(), top_k=20))
    flow, lab = document.gold_flow["bag>>fixed"], document.thresholds["bag>>fixed"]
    assert np.sum(flow.counts) == 50 and flow.bands[0] == "1" and flow.bands[-1].startswith("not among")
    assert np.diag(flow.counts)[-1] == document.verdicts["unreachable"]
    assert sum(lab.gold) == lab.gold_total and sum(lab.other) == lab.junk_total
    assert lab.gold_total + lab.junk_total == 50 * 20
    first = lab.steps[0]
    assert (first.gold_lost, first.junk_dropped, first.queries_empty) == (0, 0, 0)
    emptied = [step.queries_empty for step in lab.steps]
    assert emptied == sorted(emptied)


def test_the_verdict_queue_is_worst_first():
    document = assess(run_evaluation(make_corpus(60), ScriptedReranker(), top_k=20))
    verdicts = [row.verdict for row in sort_worst_first(document.per_query, "bag>>fixed")]
    assert verdicts[0] == "lost" and verdicts[-1] in {"rescued", "promoted"}


def advice(corpus, *rerankers, **options):
    return {line.rule: line.text for line in assess(run_evaluation(corpus, *rerankers, **options)).advice}


def test_advice_says_use_and_small_corpus_with_their_numbers():
    corpus = make_corpus(80)
    found = advice(corpus, ScriptedReranker(score_gold_first(corpus)), top_k=40)
    assert list(found)[:2] == ["decision", "small_corpus_measured"]
    assert "60 passages: under 200 a reranker seldom pays; here it does." in found["small_corpus_measured"]
    assert found["decision"].startswith("Use bag>>fixed, reranking ")
    assert "it has MRR@5 +0." in found["decision"] and "against bag" in found["decision"]


def test_a_change_is_clear_only_where_interval_and_corrected_p_agree():
    document = assess(ranked([2, 2, 2, 1, 1, 1], [1] * 6))
    change = document.systems[1].versus_first_stage["mrr@5"]
    assert change.ci95[0] > 0 and change.p_holm == 0.25 and not is_significant(change)
    assert document.decision.verdict == "undecided", "six queries decide nothing"
    assert "bag>>r0 has MRR@5 +0.250 (95 % interval +0.083 to +0.417)" in document.advice[0].text
    before, after = [2] * 6 + [1] * 24, [1] * 30  # p = 0.03 alone, 0.06 as one of two
    alone, one_of_two = (assess(ranked(before, *rerankers)) for rerankers in ([after], [after, after]))
    clear = [document.systems[1].versus_first_stage["mrr@5"] for document in (alone, one_of_two)]
    assert [is_significant(change) for change in clear] == [True, False]
    worse = assess(ranked([1] * 30, [2] * 30))
    assert is_significant(worse.systems[1].versus_first_stage["mrr@5"])
    assert "bag>>r0 is worse: MRR@5 -0.500 (95 % interval" in worse.advice[0].text


def test_a_rule_of_thumb_stands_behind_what_was_measured_clearly():
    lift = said(ranked([3] * 40, [1] * 40, passages=162))
    assert list(lift)[:2] == ["decision", "small_corpus_measured"] and lift["decision"].startswith("Use ")
    assert "162 passages: under 200 a reranker seldom pays; here it does." in lift["small_corpus_measured"]
    loss = said(ranked([1] * 40, [3] * 40, passages=162))
    assert list(loss)[:2] == ["decision", "small_corpus_measured"] and "is worse" in loss["decision"]
    assert "seldom pays, and here it does not." in loss["small_corpus_measured"]
    open_yet = said(ranked([2] * 40, [2] * 40, passages=162))
    assert list(open_yet)[:2] == ["decision", "small_corpus"]
    assert open_yet["decision"].startswith("Undecided: ") and "small_corpus_measured" not in open_yet


def test_with_too_few_queries_the_rule_of_thumb_stands():
    few = said(ranked([3] * 24, [1] * 24, passages=162))
    assert list(few)[:2] == ["decision", "small_corpus"] and few["decision"].startswith("Only 24 distinct")
    enough = said(ranked([3] * 25, [1] * 25, passages=162))
    assert "small_corpus_measured" in enough and enough["decision"].startswith("Use bag>>r0, reranking 3:")


def test_a_depth_may_be_less_than_the_passages_that_are_kept_where_that_is_enough():
    assert assess(ranked([2] * 40, [1] * 40)).decision.depth == 2
    assert said(ranked([7] * 40, [1] * 40))["decision"].startswith("Use bag>>r0, reranking 7:")


def test_the_first_stages_language_comes_before_the_rerankers_and_so_does_recall():
    german = {"languages": ("de",), "language_source": "card"}
    half_found = [0, 1] * 20
    found = said(ranked(half_found, half_found, **german))
    assert list(found)[1:4] == ["first_stage_language", "recall_first", "other_language"]
    assert found["first_stage_language"] == (
        "bag, the first stage, reads English; this corpus is in German (according to its card), and recall@10 is 0.500. "
        "Use a multilingual first stage (bge-m3) before a multilingual reranker."
    )
    reads_all = ranked(half_found, half_found, reads=(("multilingual",), ("en",)), **german)
    assert list(said(reads_all))[1:3] == ["recall_first", "other_language"]
    assert "first_stage_language" not in said(ranked(half_found, half_found, reads=((), ("en",)), **german))
    lift = said(ranked([3] * 40, [1] * 40, **german))["other_language"]
    assert "a clear lift. Use a multilingual reranker (v2-m3) and see whether it lifts more." in lift
    assert "first_stage_language" not in said(ranked([3] * 40, [1] * 40, **german))  # every gold is there


def test_where_a_reranker_of_the_run_reads_the_language_it_is_not_asked_for():
    german = {"languages": ("de",), "language_source": "card"}
    both = ranked([3] * 40, [3] * 40, [1] * 40, **german)
    assert said(both)["other_language"].startswith("r1 reads English")  # the best of them
    reads_all = dataclasses.replace(both.rerankers[1], languages=("multilingual",))
    found = said(dataclasses.replace(both, rerankers=(both.rerankers[0], reads_all)))
    assert "other_language" not in found and found["decision"].startswith("Use bag>>r1")


def test_one_is_not_said_in_the_plural_and_a_corpus_within_top_k_is_reranked_whole():
    counts = dict.fromkeys(("unjudged", "without_gold", "unknown_gold", "repeated", "cut_gold:r0"), 1)
    timed = {"bag>>r0": Latency((1.0,), 1, None, 1, "sample")}
    one = ranked([1], [1], top_k=1, passages=1, counts=counts, latency=timed)
    document = assess(one)
    words = [*said(one).values(), *document.notes]
    assert not [
        line for line in words for noun in ("queries", "passages", "ids", "candidates") if f"1 {noun}" in line
    ]
    assert (
        "The corpus has 1 passage: under 200 a reranker seldom pays. All of it is reranked;"
        in said(one)["small_corpus"]
    )
    many = {
        "counts": dict.fromkeys(counts, 2),
        "latency": {"bag>>r0": Latency((1.0,) * 10, 1, None, 2, "sample")},
    }
    two = assess(ranked([2, 1], [1, 1], **many)).notes
    assert sum(note.startswith("2 ") for note in two) == 5


def test_advice_says_undecided_worse_and_recall_first():
    corpus = make_corpus(60, passages=400)
    tied = advice(corpus, ScriptedReranker(lambda q, p: 1.0))["decision"]
    assert tied.startswith(
        "Undecided: bag>>fixed may gain more or less than your margin of 0.02: MRR@5 +0.000"
    )
    assert "against bag. 60 queries can detect a change of 0.050: judge more, and use bag meanwhile." in tied
    best = score_gold_first(corpus)
    worst = ScriptedReranker(lambda q, p: -best(q, p))
    found = advice(corpus, worst, top_k=10)
    assert "small_corpus" not in found
    assert found["decision"].startswith("Leave the reranker out and use bag: bag>>fixed is worse: MRR@5 -0.")
    recall = advice(corpus, ScriptedReranker(score_gold_first(corpus)), top_k=5)["recall_first"]
    assert "Fix recall first" in recall


def test_advice_says_that_the_model_does_not_read_the_language_by_card_or_by_its_words():
    card = CorpusCard(name="tiere", language=("de",))
    found = advice(make_corpus(30, card=card))["other_language"]
    assert "fixed reads English, this corpus is in German (according to its card); MRR@5 changes by" in found
    german = tuple(
        Passage(f"p{at:03}", "Der Fuchs und die Katze trafen sich am Abend im Wald und sprachen nicht.")
        for at in range(60)
    )
    silent = dataclasses.replace(make_corpus(30, card=CorpusCard(name="tiere")), passages=german, queries=tuple(
        Query(f"q{at:03}", "Wann trafen sich der Fuchs und die Katze im Wald?") for at in range(30)
    ))  # fmt: skip
    assert "another language (guessed from its text)" in advice(silent)["other_language"]
    assert "other_language" not in advice(make_corpus(30), ScriptedReranker(languages=("multilingual",)))
    assert "other_language" not in advice(make_corpus(30))


def test_languages_are_told_apart():
    assert (
        guess_language(
            ["The fox and the cat met in the evening, and what they said to each other is not known." * 5]
        )
        == "en"
    )
    assert (
        guess_language(["El zorro y el gato se encontraron en el bosque por la tarde y no dijeron nada." * 5])
        == "other"
    )
    assert guess_language(["狐狸和猫在晚上相遇，他们说的话没有人知道。" * 5]) == "zh"
    assert (
        guess_language(["キツネとネコは夕方に森で会いましたが、何を話したかは誰も知りません。" * 5]) == "ja"
    )
    assert guess_language(["too few"]) == ""
    assert guess_language(["Лиса и кошка встретились вечером в лесу."]) == "other"


def test_english_without_its_small_words_is_not_said_to_be_another_language():
    shop = [f"Philips monitor graphite model {at}, fast delivery, 2 year warranty" for at in range(40)]
    assert guess_language(shop) == ""


@pytest.mark.parametrize("written", ["English", "en_US", "eng", "EN-gb", " en "])
def test_a_card_may_write_its_language_in_any_of_the_usual_ways(written):
    card = CorpusCard(name="animals", language=(written,))
    assert find_languages(make_corpus(3, card=card)) == (("en",), "card")
    assert "other_language" not in advice(make_corpus(30, card=card))


def test_a_language_that_nobody_knows_is_left_to_the_words():
    assert find_languages(make_corpus(30, card=CorpusCard(name="animals", language=("see readme",)))) == (
        ("en",),
        "text",
    )


def test_every_rule_names_its_number_and_its_source_in_words():
    assert all(rule.looks_at and rule.source for rule in RULES) and len({rule.name for rule in RULES}) == len(
        RULES
    )
    assert not [
        rule.name
        for rule in RULES
        if set("_()") & set(rule.looks_at + rule.source) or "ci95" in rule.looks_at
    ]
    first, *_ = assess(ranked([3] * 40, [1] * 40)).advice
    assert first.rule == "decision" and first.looks_at.startswith(
        "the change of MRR@5 with its 95 % interval"
    )


def test_levers_count_all_that_is_unreachable_and_name_no_depth_that_adds_nothing():
    outcome = ranked([1] * 5 + [0] * 35, [1] * 5 + [0] * 35, top_k=10, passages=60)
    reach = {
        f"q{row}": {"bag": 25 if row < 20 else 45, "bm25": 3 if row < 15 else None, "hybrid": 12}
        for row in range(5, 35)
    }  # 5 of the 35 were not examined
    outcome = dataclasses.replace(outcome, reach=reach | {"q0": {"bag": 1, "bm25": 1, "hybrid": 1}})
    levers = assess(outcome).levers
    assert (levers.unreachable, levers.examined) == (35, 30), "q0 is reached, whatever the reach says of it"
    assert {lever.name: lever.reaches for lever in levers.levers} == {
        "top_k 50": 30, "top_k 30": 15, "bm25": 10, "hybrid": 0,
    }  # fmt: skip
    assert "top_k 100" not in levers.words, "the corpus has 60 passages"
    assert levers.words.startswith("Of 30 of the 35 queries that bag does not reach, top_k 50 reaches 30, ")
    same = {qid: ranks | {"bag": 25} for qid, ranks in reach.items()}
    names = [each.name for each in assess(dataclasses.replace(outcome, reach=same)).levers.levers]
    assert "top_k 30" in names and "top_k 50" not in names


def test_recall_is_fixed_first_only_where_no_first_stage_of_the_run_reaches_it():
    outcome = ranked([1] * 30 + [0] * 20, [1] * 30 + [0] * 20)
    [advice] = [line for line in assess(outcome).advice if line.rule == "recall_first"]
    assert "40% of recall@5 is out of reach" in advice.text and "candidates of bag;" in advice.text
    [stage] = outcome.stages
    places = stage.places.copy()
    places[30:, 0] = ranked([1] * 50, [1] * 50).stages[0].places[30:, 0]
    better = dataclasses.replace(
        stage, places=places, first_stage=dataclasses.replace(stage.first_stage, key="better")
    )
    both = dataclasses.replace(outcome, stages=(stage, better))
    if (both.judged_by("better").first_gold > 0).all():
        assert not [line for line in assess(both).advice if line.rule == "recall_first"]


def test_candidates_that_are_fewer_for_one_query_are_padded():
    corpus = make_corpus(3, passages=10)

    class Ragged(ExactRetriever):
        def search(self, queries, top_k):
            first, *rest = super().search(queries, top_k)
            return [dataclasses.replace(first, ranking=Ranking(first.ranking.hits[:2])), *rest]

    *_, outcome = evaluate(corpus, [Ragged(corpus)], [ScriptedReranker()], top_k=8)
    assert outcome.stages[0].places[0].tolist()[2:] == [-1] * 6
    assert [len(ranking) for _, ranking in outcome.run("bag>>fixed")] == [2, 8, 8]
    json.dumps(assess(outcome).to_json(), allow_nan=False)
    assert BagEmbedder.spec.key == outcome.stages[0].key


def test_a_metric_asked_for_beside_the_cutoffs_is_what_it_is_at_a_cutoff_and_alone():
    many = ranked([3] * 30, [1] * 30, also=range(11, 110))
    asked = assess(many, ["ndcg@100", "recall@50"]).systems[1].metrics
    as_cutoff = assess(dataclasses.replace(many, cutoffs=(50, 100))).systems[1].metrics
    [ranking] = {ranking.passage_ids for _, ranking in many.run("bag>>r0")}
    for name in ("ndcg@100", "recall@50"):
        alone = parse(name).of(ranking, many.qrels["q0"])
        assert asked[name].value == as_cutoff[name].value == pytest.approx(alone)
        assert alone < 0.4


def test_a_query_asked_a_thousand_times_is_one_observation():
    copies = tuple(Query(f"q{row}", "the same question") for row in range(1000))
    document = assess(dataclasses.replace(ranked([8] * 1000, [1] * 1000), queries=copies))
    change = document.systems[1].versus_first_stage["mrr@5"]
    assert document.queries == 1000 and document.distinct_queries == 1
    assert change.delta == 1 and change.ci95 == (-1, 1) and change.p_value == 1
    assert document.decision.verdict == "undecided" and document.splits == 0
    assert document.advice[0].text.startswith("Only 1 distinct query: judge at least 25 before you decide.")
    assert any("One query says nothing" in note for note in document.notes)


def test_a_cut_that_would_cost_recall_is_not_advised():
    before, after = [1] * 60 + [9] * 12, [1] * 72
    found = ranked(before, after, top_k=20)
    assert said(found)["decision"].startswith("Use bag>>r0, reranking 9:")
    points = {point.depth: point for point in assess(found).frontier}
    assert not points[5].equivalent and points[9].equivalent
    assert points[5].metrics["recall@5"] == points[0].metrics["recall@5"]


def test_a_larger_reranker_is_advised_only_where_none_was_tried():
    before, after = [4] * 30 + [9] * 30, [1] * 30 + [9] * 30
    one = ranked(before, after)
    assert "Try a larger reranker" in said(one)["larger"]
    two = ranked(before, after, [6] * 60)
    large = dataclasses.replace(two.rerankers[1], parameters=400_000_000)
    assert "larger" not in said(dataclasses.replace(two, rerankers=(two.rerankers[0], large)))


def test_the_ring_is_on_a_point_that_loses_less_than_the_margin():
    rng = np.random.default_rng(3)
    before = list(rng.integers(1, 21, 85))
    after = [int(max(1, rank - rng.integers(0, 19) * (rng.random() < 0.5))) for rank in before]
    points = assess(ranked(before, after, top_k=20)).frontier
    [ringed] = [point for point in points if point.cheapest]
    best = max(point.metrics["mrr@5"] for point in points)
    assert 0 < ringed.depth < 20 and best - ringed.metrics["mrr@5"] < 0.02
    assert any(best - point.metrics["mrr@5"] > 0.02 for point in points if point.depth)


def test_a_latency_that_nobody_measured_is_unknown_and_said_so(tmp_path):
    corpus, cache = make_corpus(12), ScoreCache(tmp_path / "scores.sqlite")
    run_evaluation(corpus, cache=cache, top_k=10)
    document = assess(run_evaluation(corpus, cache=cache, top_k=10, timed=False))
    cache.close()
    assert document.systems[1].latency == Latency()
    assert all(point.latency_ms is None for point in document.frontier if point.depth)
    assert sum(point.cheapest for point in document.frontier) == 1
    assert "The latency of bag>>fixed was not measured." in document.notes

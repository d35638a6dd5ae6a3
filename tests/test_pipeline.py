"""Both stages: what a rerank may and may not do, what it costs, and what is said of it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from rag_inspect import pipeline
from rag_inspect.errors import InputError, RerankError
from rag_inspect.options import check_depths
from rag_inspect.pipeline import make_query, name_verdict
from rag_inspect.retrieval import DenseRetriever, connect
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import rank
from rag_inspect.types import Candidates, Corpus, CorpusCard, FirstStage, Passage, Query, Ranking, Reranking
from tests.fixed_embedder import FixedEmbedder
from tests.fixed_reranker import FixedReranker

STAGE = FirstStage(key="fixed", kind="dense", score_name="cosine")
SPEC = FixedReranker().spec
TEXTS = [f"passage number {n}" for n in range(40)]


def corpus_of(texts=TEXTS, gold=("p3",), query="which number") -> Corpus:
    passages = tuple(Passage(f"p{n}", text) for n, text in enumerate(texts))
    queries = (Query("q", f" {query} "),)
    return Corpus(
        CorpusCard(name="tiny"), Path("tiny"), passages, queries, {"test": {"q": dict.fromkeys(gold, 1)}}
    )


@pytest.fixture
def retriever(settings):
    made = DenseRetriever(connect(settings), corpus_of(), FixedEmbedder())
    made.index()
    return made


@pytest.fixture
def cache(settings):
    return ScoreCache(settings.home / "scores.sqlite")


def search(text, retriever, reranker, cache=None, top_k=20, top_n=5, corpus=None):
    candidates = pipeline.find_candidates(retriever, corpus or corpus_of(), text, top_k)
    return pipeline.rerank(candidates, reranker, cache, top_n)


def last(moments) -> Reranking:
    *_, end = moments
    return end


# A rerank

LOGITS = st.lists(st.floats(-20, 20) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=40)


def stage(logits: list[float]) -> tuple[Ranking, dict[str, float]]:
    names = [f"p{n}" for n in range(len(logits))]
    cosines = [1 - n / 100 for n in range(len(logits))]
    return Ranking.of(list(zip(names, cosines, strict=True))), dict(zip(names, logits, strict=True))


def finished(
    candidates: Ranking, logits: dict[str, float], gold: tuple[str, ...] = (), top_n: int = 5
) -> Reranking:
    found = Candidates(
        query=Query("", "q"),
        first_stage=STAGE,
        top_k=len(candidates),
        ranking=candidates,
        passages={pid: Passage(pid, pid) for pid in candidates.passage_ids},
        grades=dict.fromkeys(gold, 1),
    )
    ranked = rank(candidates, logits)
    return pipeline.finish(Reranking(candidates=found, reranker=SPEC, top_n=top_n, ranking=ranked))


@pytest.mark.parametrize(
    ("logits", "grades", "words"),
    [
        ([2, 4, 1, 3], {"p0": 2, "p1": 1}, "The best-graded gold passage moved 1 → 3."),
        ([4, 3, 2, 1], {"p0": 1, "p2": 2}, "The best-graded gold passage stayed at 3."),
        ([1, 2, 3, 4], {"p3": 2, "p2": 2, "p0": 1}, "The first of the best-graded gold moved 3 → 1."),
        ([2, 4, 1, 3], {"p0": 2, "p1": 2, "p3": 1}, "Another gold passage is now at 1: the one that was there moved 1 → 3."),
        ([4, 3, 1, 2], {"gone": 2, "p2": 1}, "The best-graded gold passage is not among the 4 candidates. The best of the other gold moved 3 → 4."),
        ([4, 3, 1, 2], {"p1": 1, "p2": 0}, "The gold passage stayed at 2."),
    ],
)  # fmt: skip
def test_with_graded_gold_the_sentence_is_about_the_best_graded(logits, grades, words):
    candidates, by_id = stage(logits)
    reranking = finished(candidates, by_id, tuple(grades))
    graded = replace(reranking, candidates=replace(reranking.candidates, grades=grades))
    assert pipeline.finish(graded).summary.startswith(f"{words} ")


@trying(max_examples=60)
@given(LOGITS)
def test_a_rerank_is_a_permutation_by_falling_logit(logits):
    candidates, by_id = stage(logits)
    reranked = rank(candidates, by_id)
    assert sorted(reranked.passage_ids) == sorted(candidates.passage_ids)
    assert [hit.score for hit in reranked] == sorted(logits, reverse=True)
    assert [hit.rank for hit in reranked] == list(range(1, len(logits) + 1))


@trying(max_examples=60)
@given(LOGITS)
def test_moves_add_up_to_nothing(logits):
    moves = finished(*stage(logits)).moves
    assert sum(move.delta for move in moves) == 0
    assert [move.after for move in moves] == list(range(1, len(logits) + 1))


@trying(max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_equal_logits_keep_the_order_of_the_first_stage(logits):
    candidates, by_id = stage([float(logit) for logit in logits])
    reranked = rank(candidates, by_id)
    for logit in set(by_id.values()):
        tied = [hit.passage_id for hit in reranked if hit.score == logit]
        assert tied == [pid for pid in candidates.passage_ids if by_id[pid] == logit]


@trying(max_examples=60)
@given(st.lists(st.integers(-30, 30), min_size=1, max_size=30))
def test_only_the_order_of_logits_matters(logits):
    candidates, by_id = stage([float(logit) for logit in logits])
    cubed = {pid: logit**3 / 7 - 2 for pid, logit in by_id.items()}
    assert rank(candidates, cubed).passage_ids == rank(candidates, by_id).passage_ids


def test_a_rank_needs_numbers():
    candidates, logits = stage([1.0, 2.0])
    for wrong in (math.nan, math.inf, -math.inf):
        with pytest.raises(RerankError, match='"p1"'):
            rank(candidates, {**logits, "p1": wrong})
    assert rank(candidates, {"p1": 1.0}).passage_ids == ("p1",)  # as far as it is scored


def test_a_reranker_that_leaves_a_passage_out_is_named(retriever):
    class Forgetful(FixedReranker):
        def score_pairs(self, pairs):
            return super().score_pairs(pairs[:-1])

    with pytest.raises(RerankError, match=r'fixed gave no score for passage "p\d+" \(19 of 20 have one'):
        last(search("which number", retriever, Forgetful()))


# Verdicts and words


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (None, None, "unreachable"),
        (6, 5, "rescued"),
        (20, 1, "rescued"),
        (5, 6, "lost"),
        (1, 20, "lost"),
        (2, 1, "promoted"),
        (5, 1, "promoted"),
        (1, 2, "demoted"),
        (1, 5, "demoted"),
        (1, 1, "held"),
        (5, 5, "held"),
        (6, 6, "near_miss"),
        (6, 20, "near_miss"),
        (20, 6, "near_miss"),
    ],
)
def test_the_verdict_worked_out_by_hand(before, after, verdict):
    assert name_verdict(before, after, top_n=5) == verdict


#                    candidates p0 p1 p2 p3; top 2
SENTENCES = {
    "nothing moved": ([4, 3, 2, 1], (), None, "Nothing moved."),
    "entered": ([1, 2, 4, 3], (), None, "4 of 4 moved; 2 entered the top 2."),
    "inside only": ([3, 4, 2, 1], (), None, "2 of 4 moved; none entered the top 2."),
    "rescued": ([3, 1, 4, 2], ("p2",), "rescued", "The gold passage moved 3 → 1. 4 of 4 moved; 1 entered the top 2."),
    "stayed": ([3, 4, 1, 2], ("p9",), "unreachable", "The gold passage is not among the 4 candidates: no reranker can help here. 4 of 4 moved; none entered the top 2."),
    "held": ([4, 3, 1, 2], ("p1",), "held", "The gold passage stayed at 2. 2 of 4 moved; none entered the top 2."),
    "all held": ([4, 3, 2, 1], ("p0",), "held", "The gold passage stayed at 1. Nothing moved."),
    "lost": ([1, 4, 3, 2], ("p0",), "lost", "The gold passage moved 1 → 4. 4 of 4 moved; 1 entered the top 2."),
    "best of several": ([2, 4, 1, 3], ("p0", "p1"), "held", "Another gold passage is now at 1: the one that was there moved 1 → 3. 4 of 4 moved; 1 entered the top 2."),
    "several out of reach": ([4, 3, 2, 1], ("p8", "p9"), "unreachable", "None of the 2 gold passages are among the 4 candidates: no reranker can help here. Nothing moved."),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence(case):
    logits, gold, verdict, sentence = SENTENCES[case]
    done = finished(*stage([float(logit) for logit in logits]), gold, top_n=2)
    assert (done.verdict, done.summary) == (verdict, sentence)


def test_an_unfinished_search_has_no_sentence():
    candidates, logits = stage([1.0, 2.0])
    assert pipeline.summarise(replace(finished(candidates, logits), ranking=Ranking(()))) == ""


# What is asked


@pytest.mark.parametrize(("top_k", "top_n"), [(1, 1), (20, 5), (200, 200), (200, 1)])
def test_depths_that_make_sense(top_k, top_n):
    check_depths(top_k, top_n)


@pytest.mark.parametrize(
    ("top_k", "top_n", "said"),
    [
        (0, 1, "top_k is 0; expected a whole number from 1 to 200"),
        (201, 1, "top_k is 201"),
        (-5, 1, "top_k is -5"),
        (20, 0, "top_n is 0"),
        (20, 21, r"top_n cannot exceed top_k \(21 > 20\)"),
        (20.0, 5, "top_k is 20.0"),
        (20, 5.5, "top_n is 5.5"),
        (math.nan, 5, "top_k is nan"),
        ("20", 5, "top_k is '20'"),
        (None, 5, "top_k is None"),
        (True, 1, "top_k is True"),
        (10**30, 1, "top_k is 1000"),
    ],
)
def test_depths_that_make_none(top_k, top_n, said):
    with pytest.raises(InputError, match=said):
        check_depths(top_k, top_n)


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t \u3000", "\u200b\u200d \ufeff", "\u2800\u3164", None, 3, ["words"]]
)
def test_a_blank_query_is_refused(text):
    with pytest.raises(InputError, match="blank"):
        make_query(text, corpus_of())


@pytest.mark.parametrize("text", ["🦜", "❤️", "👩‍👩‍👧", "?", "\u200bwords"])
def test_a_query_with_anything_to_see_is_taken(text):
    assert make_query(text, corpus_of())[0].text == text


def test_an_eval_query_is_known_by_its_text():
    query, notes = make_query("\n which number  ", corpus_of())
    assert query.query_id == "q" and not notes
    assert make_query("which number?", corpus_of())[0] == Query("", "which number?")


def test_a_query_that_is_too_long_is_cut_and_that_is_said():
    query, [note] = make_query("word " * 20_000, corpus_of())
    assert len(query.text) == pipeline.MAX_QUERY_CHARACTERS and query.query_id == ""
    assert "99,999 characters" in note and "first 20,000" in note


@pytest.mark.parametrize("text", ["half \ud83d a pair", "\udc00"])
def test_half_a_surrogate_pair_becomes_a_question_mark(text):
    query, _ = make_query(text, corpus_of())
    assert "?" in query.text and query.text.encode()


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "${alert(1)}", "\\", "'\"", "שלום", "😀" * 500, "a\0b", "a\u200bb"]
)
def test_any_other_text_is_searched_as_it_is(retriever, text):
    end = last(search(text, retriever, FixedReranker()))
    assert end.candidates.query.text == text and len(end.ranking) == 20 and end.complete


# A search


def test_a_search_shows_its_candidates_first_and_ends_finished(retriever, cache):
    reranker = FixedReranker({"p3": 9.0}, batch=4)
    first, *partial, end = search("which number", retriever, reranker, cache, top_k=20, top_n=5)
    assert len(first.candidates) == 20 and not len(first.ranking) and not first.complete
    assert [len(moment.ranking) for moment in partial] == [4, 8, 12, 16]
    assert not any(moment.complete or moment.moves for moment in partial)
    assert set(first.timings_ms) == {"embed", "retrieve"}
    assert end.candidates.gold == {"p3"} and end.ranking.passage_ids[0] == "p3"
    before = end.candidates.ranking.rank_by_id["p3"]
    assert end.verdict == name_verdict(before, 1, 5)
    assert (end.scored_pairs, end.cached_pairs) == (20, 0)
    assert set(end.readings) == set(end.candidates.ranking.passage_ids)
    assert end.timings_ms["total"] == pytest.approx(
        sum(end.timings_ms[s] for s in ("embed", "retrieve", "rerank"))
    )


def test_a_query_out_of_no_eval_set_has_no_gold_and_no_verdict(retriever):
    end = last(search("something else", retriever, FixedReranker()))
    assert (end.candidates.gold, end.verdict, end.candidates.query.query_id) == (frozenset(), None, "")


def test_a_corpus_smaller_than_top_n(settings):
    retriever = DenseRetriever(connect(settings), corpus_of(TEXTS[:3]), FixedEmbedder())
    retriever.index()
    end = last(search("which number", retriever, FixedReranker(), corpus=corpus_of(TEXTS[:3])))
    assert len(end.candidates) == 3 and end.candidates.top_k == 20 and end.verdict is not None


def test_ten_deeper_costs_ten_pairs_and_the_same_again_none(retriever, cache):
    reranker = FixedReranker()
    counts = []
    for top_k in (20, 30, 30, 20):
        end = last(search("which number", retriever, reranker, cache, top_k))
        counts.append((end.scored_pairs, end.cached_pairs))
    assert counts == [(20, 0), (10, 20), (0, 30), (0, 20)]
    assert len(reranker.scored) == 30


def test_another_query_or_another_model_is_scored_anew(retriever, cache):
    last(search("which number", retriever, FixedReranker(), cache))
    assert last(search("which numbers", retriever, FixedReranker(), cache)).scored_pairs == 20
    assert last(search("which number", retriever, FixedReranker(key="other"), cache)).scored_pairs == 20


def test_equal_passages_are_read_once(settings, cache):
    corpus, embedder, reranker = corpus_of(["same text"] * 8 + TEXTS[:4]), FixedEmbedder(), FixedReranker()
    retriever = DenseRetriever(connect(settings), corpus, embedder)
    retriever.index()
    end = last(search("same", retriever, reranker, cache, top_k=12, corpus=corpus))
    assert len(reranker.scored) == len(embedder.embedded) == 5 and len(end.ranking) == 12
    assert last(search("same", retriever, reranker, cache, top_k=12, corpus=corpus)).cached_pairs == 12


def test_a_search_that_is_stopped_keeps_what_was_scored(retriever, cache):
    reranker = FixedReranker(batch=4)
    moments = search("which number", retriever, reranker, cache)
    for moment in moments:
        if len(moment.ranking) == 8:
            moments.close()
            break
    assert len(reranker.scored) == 8
    end = last(search("which number", retriever, reranker, cache))
    assert (end.scored_pairs, end.cached_pairs) == (12, 8)
    assert end.ranking == last(search("which number", retriever, FixedReranker())).ranking


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_names_model_and_passage(retriever, cache, wrong):
    with pytest.raises(
        RerankError, match=r'fixed \(tests/fixed\) gave (nan|inf|-inf) for passage "p7"'
    ) as caught:
        last(search("passage number 7", retriever, FixedReranker({"p7": wrong}), cache))
    assert "try another reranker" in str(caught.value)
    assert last(search("passage number 7", retriever, FixedReranker({"p7": 1.0}), cache)).complete


def test_a_cache_in_trouble_stops_nothing(retriever, cache):
    cache.close()
    end = last(search("which number", retriever, FixedReranker(), cache))
    assert end.complete and (end.scored_pairs, end.cached_pairs) == (20, 0) and cache.trouble


def test_without_a_cache(retriever):
    assert last(search("which number", retriever, FixedReranker())).scored_pairs == 20

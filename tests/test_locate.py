"""Where a passage is: true ranks by brute force, and the cause that keeps it out of the top n."""

import random
from dataclasses import replace

import numpy as np
import pytest

from rag_inspect.locate import find_passages, locate, name_cause
from rag_inspect.pipeline import find_candidates, rerank
from rag_inspect.retrieval import DenseRetriever, HybridRetriever, connect, find_first_stage, open_bm25
from rag_inspect.retrieval.exact import find_least_cosines, rank_vectors
from rag_inspect.retrieval.hybrid import choose_depth
from rag_inspect.types import CAUSES, Query
from tests.evaluating import ExactRetriever
from tests.fixed_embedder import FixedEmbedder
from tests.fixed_reranker import FixedReranker
from tests.test_retrieval import corpus_of, random_corpus

CORPUS = random_corpus(90)
QUERIES = [Query("", "amber birch"), Query("", "ocean pearl maple")]


@pytest.fixture
def dense(settings):
    retriever = DenseRetriever(connect(settings), CORPUS, FixedEmbedder(dimensions=32))
    retriever.index()
    return retriever


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_true_ranks_are_those_of_a_sorted_list_whatever_the_blocks():
    chance = np.random.default_rng(3)
    vectors, queries = unit(chance.normal(size=(57, 8))), unit(chance.normal(size=(4, 8)))
    order = np.argsort(-(queries @ vectors.T), axis=1)
    places = np.arange(57)
    blocks = [(places[at : at + 10], vectors[at : at + 10]) for at in range(0, 57, 10)]
    wanted = [(places[row::4], vectors[row::4]) for row in range(4)]
    for row, found in enumerate(rank_vectors(queries, wanted, blocks)):
        assert found.tolist() == [order[row].tolist().index(place) + 1 for place in places[row::4]]
    least = find_least_cosines(queries, 5, blocks)
    assert least == pytest.approx(-np.sort(-(queries @ vectors.T), axis=1)[:, 4])


def test_equal_cosines_rank_in_the_corpus_order():
    vectors = unit(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    [found] = rank_vectors(vectors[:1], [(np.arange(4), vectors)], [(np.arange(4), vectors)])
    assert found.tolist() == [1, 4, 2, 3]


def test_an_index_is_ranked_without_itself(dense, monkeypatch):
    monkeypatch.setattr("rag_inspect.retrieval.dense.BLOCK", 7)
    ids = [passage.passage_id for passage in CORPUS.passages]
    whole = dense.search(QUERIES, len(ids))
    for candidates, ranks in zip(
        whole, dense.rank_exactly([(query, ids) for query in QUERIES], 20), strict=True
    ):
        assert sorted(ranks.values()) == list(range(1, len(ids) + 1))
        cosines = candidates.ranking.score_by_id  # the index may order equal cosines otherwise
        assert [cosines[pid] for pid in sorted(ids, key=ranks.__getitem__)] == pytest.approx(
            [hit.score for hit in candidates.ranking], abs=1e-6
        )
    assert dense.audit(QUERIES, 20) == 1.0
    assert dense.rank_exactly([(QUERIES[0], [])], 20) == [{}]


def test_an_index_that_loses_passages_is_found_out(dense, monkeypatch):
    true_search = dense.search

    def lose_the_first(queries, top_k):
        return [
            type(found)(**{**vars(found), "ranking": type(found.ranking).of(
                [(hit.passage_id, hit.score) for hit in true_search([found.query], top_k + 5)[0].ranking.hits[5:]]
            )})
            for found in true_search(queries, top_k)
        ]  # fmt: skip

    monkeypatch.setattr(dense, "search", lose_the_first)
    assert dense.audit(QUERIES, 20) == pytest.approx(15 / 20)
    hybrid = HybridRetriever(find_first_stage("hybrid"), CORPUS, [dense, ExactRetriever(CORPUS)])
    assert hybrid.audit(QUERIES, 20) == dense.audit(QUERIES, choose_depth(20)) < 1


def test_ranks_of_the_other_first_stages(settings):
    corpus = corpus_of({"a": "amber birch", "b": "birch", "c": "cedar"})
    words, dense = open_bm25(corpus, settings.home), ExactRetriever(corpus)
    wanted = [(Query("", "amber birch"), ["a", "b", "c"])]
    assert words.rank_exactly(wanted, 20) == [{"a": 1, "b": 2}]
    hybrid = HybridRetriever(find_first_stage("hybrid"), corpus, [dense, words])
    assert hybrid.rank_exactly(wanted, 20) == [{"a": 1, "b": 2, "c": 3}]


@pytest.mark.parametrize(
    ("exact", "before", "after", "cause"),
    [
        (3, 3, 5, "kept"),
        (3, 3, 6, "demoted"),
        (9, 9, 6, "not_lifted"),
        (20, None, None, "index_missed"),
        (21, None, None, "first_stage_missed"),
        (None, None, None, "first_stage_missed"),
    ],
)
def test_the_cause(exact, before, after, cause):
    assert name_cause(exact, before, after, top_k=20, top_n=5) == cause and cause in CAUSES


def search_tiny(retriever, corpus, top_k, top_n):
    candidates = find_candidates(retriever, corpus, "amber", top_k)
    *_, end = rerank(candidates, FixedReranker(), None, top_n)
    return end


def test_a_passage_below_top_k_is_located_with_its_true_ranks(settings):
    corpus = corpus_of({"a": "amber", "b": "amber birch", "c": "cedar", "d": "delta"})
    dense, words = ExactRetriever(corpus), open_bm25(corpus, settings.home)
    search = search_tiny(dense, corpus, top_k=2, top_n=1)
    found = locate(search, corpus, "d", {"bag": dense, "bm25": words})
    assert found.cause == "first_stage_missed" and found.exact_ranks == {
        "bag": found.exact_rank,
        "bm25": None,
    }
    assert found.exact_rank in (3, 4) and found.first_stage_rank is found.reranked_rank is None
    assert found.to_json()["cause"] == "first_stage_missed" and "no reranker sees it" in found.words
    best = search.ranking.hits[0].passage_id
    assert locate(search, corpus, best, {"bag": dense}).cause == "kept"
    gone = locate(search, corpus, "nobody", {"bag": dense})
    assert gone.cause == "not_in_corpus" and gone.exact_rank is None


def test_passages_are_found_by_id_and_by_words():
    corpus = corpus_of({"p1": "Amber  birch", "p2": "cedar", "p11": "more amber"})
    assert [p.passage_id for p in find_passages(corpus, "p1")] == ["p1"]
    assert [p.passage_id for p in find_passages(corpus, "amber birch")] == ["p1"]
    assert [p.passage_id for p in find_passages(corpus, "AMBER")] == ["p1", "p11"]
    assert [p.passage_id for p in find_passages(corpus, "amber", most=1)] == ["p1"]
    assert find_passages(corpus, "  ") == find_passages(corpus, "nowhere") == []


def test_words_are_found_in_any_order_and_whatever_the_white_space():
    corpus = corpus_of({"a\u00a0b": "ONNX on a CPU", "c  d": "quantised  weights for ONNX"})
    for asked, ids in (
        ("a\u00a0b", ["a\u00a0b"]), ("a b", ["a\u00a0b"]), ("c  d", ["c  d"]), ("c d", ["c  d"]),
        ("onnx quantised", ["c  d"]), ("cpu onnx", ["a\u00a0b"]), ("onnx", ["a\u00a0b", "c  d"]), ("onnx gpu", []),
    ):  # fmt: skip
        assert [p.passage_id for p in find_passages(corpus, asked)] == ids, asked


def test_a_hybrids_true_ranks_are_those_of_its_search(settings):
    chance = random.Random(5)
    words = [f"word{n}" for n in range(40)]
    corpus = corpus_of({f"p{n:03}": " ".join(chance.choices(words, k=12)) for n in range(400)})
    parts = [ExactRetriever(corpus), open_bm25(corpus, settings.home)]
    hybrid, query = HybridRetriever(find_first_stage("hybrid"), corpus, parts), Query("", "word1 word7 word9")
    for top_k in (5, 20, 60):
        [found] = hybrid.search([query], top_k)
        [ranks] = hybrid.rank_exactly([(query, [p.passage_id for p in corpus.passages])], top_k)
        assert {pid: rank for pid, rank in ranks.items() if rank <= top_k} == found.ranking.rank_by_id
        assert set(ranks.values()) == set(range(1, len(ranks) + 1))


def test_a_query_among_the_passages_is_left_out_of_the_true_ranks():
    corpus = corpus_of({"q": "amber birch", "a": "amber birch cedar", "b": "amber delta", "c": "elm"})
    corpus = replace(corpus, queries=(Query("q", "amber birch"),), splits={"test": {"q": {"b": 1}}})
    dense = ExactRetriever(corpus)
    candidates = find_candidates(dense, corpus, "", 2, "q")
    *_, search = rerank(candidates, FixedReranker(), None, 1)
    itself = locate(search, corpus, "q", {"bag": dense})
    assert itself.cause == "left_out" and itself.exact_rank is None and "the query itself" in itself.words
    ranks = {pid: locate(search, corpus, pid, {"bag": dense}).exact_rank for pid in "abc"}
    assert [ranks[pid] for pid in candidates.ranking.passage_ids] == [1, 2]
    assert sorted(ranks.values()) == [1, 2, 3], "the others move up"
    kept = find_candidates(dense, corpus, "", 2, "q", keep_identical_ids=True)
    *_, search = rerank(kept, FixedReranker(), None, 1)
    assert locate(search, corpus, "q", {"bag": dense}).exact_rank == 1


def test_what_a_first_stage_does_not_rank_is_not_called_below_top_k(settings):
    corpus = corpus_of({"a": "amber", "b": "birch"})
    words = open_bm25(corpus, settings.home)
    search = search_tiny(words, corpus, 1, 1)
    found = locate(search, corpus, "b", {"bm25": words})
    assert found.cause == "first_stage_missed" and "does not rank it at all" in found.words

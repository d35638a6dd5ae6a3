"""First stages other than an embedder: their terms, BM25 beside bm25s and by hand, fusion by hand, recorded runs."""

import math
import os
import time

import bm25s
import numpy as np
import pytest

from rag_inspect.corpora import read_path
from rag_inspect.errors import CorpusError, ModelError
from rag_inspect.retrieval import (
    FIRST_STAGES,
    HybridRetriever,
    RecordedRetriever,
    find_first_stage,
    open_bm25,
)
from rag_inspect.retrieval.bm25 import NOTHING_KNOWN, build_index
from rag_inspect.retrieval.hybrid import fuse_ranks
from rag_inspect.retrieval.tokens import Terms
from rag_inspect.types import Corpus, CorpusCard, Passage, Query, Ranking
from tests.evaluating import ExactRetriever

TEXTS = {
    "cats": "The cat chases the mouse and the mouse runs",
    "dogs": "A dog sleeps beside the cat",
    "code": "Call get_user_id after HTTP 429, with --top-k 5 or getUserName",
    "birds": "Birds sing at dawn",
}


def corpus_of(texts: dict[str, str], *languages: str) -> Corpus:
    passages = tuple(Passage(passage_id, text) for passage_id, text in texts.items())
    return Corpus(CorpusCard(name="tiny", language=languages), None, passages)


def search(retriever, text, top_k=10, query_id=""):
    [found] = retriever.search([Query(query_id, text)], top_k)
    return found


# Terms


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("en", "Running dogs", ["run", "dog"]),
        ("", "Running dogs", ["running", "dogs"]),
        ("de", "Häuser am Fluss", ["haus", "am", "fluss"]),
        ("en", "get_user_id", ["get_user_id", "get", "user", "id"]),
        ("en", "getUserName", ["getusername", "get", "user", "name"]),
        ("en", "HTTPServer 429", ["httpserver", "http", "server", "429"]),
        ("en", "--top-k", ["top-k", "top", "k"]),
        ("en", "C++, C# and C", ["c++", "c", "c#", "c", "and", "c"]),
        ("en", "the compiler's end. Next", ["the", "compil", "end", "next"]),
        ("", "水と空気", ["水と", "と空", "空気"]),
        ("", "水", ["水"]),
        ("", "검색 엔진", ["검색", "엔진"]),
        ("", "हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are no gaps
        ("", "GPT模型 v2.5", ["gpt", "模型", "v2.5", "v2", "5"]),
        ("", "Ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),
        ("", "", []),
        ("", "😀 … -- \u200b", []),
    ],
)
def test_the_terms_of_a_text(language, text, terms):
    split = Terms((language,) if language else ())
    found = split(text)
    assert [term.lower() for term in found] == terms


def test_a_language_without_a_stemmer_and_several_languages_are_not_stemmed():
    assert Terms(("zh",)).language == Terms(("en", "de")).language == Terms().language == ""
    assert Terms(("en",)).name != Terms().name


# BM25


def test_the_scores_are_those_of_bm25s_with_the_same_terms(tmp_path):
    corpus = corpus_of(TEXTS, "en")
    peer, terms = bm25s.BM25(), Terms(("en",))
    peer.index([terms(text) for text in TEXTS.values()], show_progress=False)
    found = search(open_bm25(corpus, tmp_path), "cats chasing mice or a mouse")
    expected = peer.get_scores(
        [term for term in terms("cats chasing mice or a mouse") if term in peer.vocab_dict]
    )
    known = dict(zip(TEXTS, expected.tolist(), strict=True))
    assert found.ranking.score_by_id == pytest.approx({pid: score for pid, score in known.items() if score})


def test_a_score_worked_by_hand(tmp_path):
    """Two of three passages have "cat"; the formula is Lucene's: idf x tf / (tf + k1 (1 - b + b length / mean))."""
    corpus = corpus_of({"a": "cat cat dog", "b": "cat", "c": "dog dog"})
    found = search(open_bm25(corpus, tmp_path), "cat")
    idf, mean = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5)), 2.0
    by_hand = {
        "a": idf * 2 / (2 + 1.5 * (0.25 + 0.75 * 3 / mean)),
        "b": idf * 1 / (1 + 1.5 * (0.25 + 0.75 * 1 / mean)),
    }
    assert found.ranking.score_by_id == pytest.approx(by_hand)
    assert found.ranking.passage_ids == (
        "b",
        "a",
    )  # the shorter one first; "c" shares no term and is no candidate


@pytest.mark.parametrize(
    "query", ["get_user_id", "user", "http 429", "--top-k", "top k", "getUserName", "name"]
)
def test_identifiers_are_found_whole_and_in_parts(tmp_path, query):
    assert search(open_bm25(corpus_of(TEXTS, "en"), tmp_path), query).ranking.passage_ids[0] == "code"


def test_equal_texts_tie_in_the_corpus_order_and_the_ties_left_out_are_counted(tmp_path):
    corpus = corpus_of({f"p{n}": "the same words" for n in range(7)} | {"best": "same same"})
    found = search(open_bm25(corpus, tmp_path), "same", top_k=4)
    assert found.ranking.passage_ids == ("best", "p0", "p1", "p2") and found.tied == 4
    assert len({hit.score for hit in found.ranking.hits[1:]}) == 1


@pytest.mark.parametrize("query", ["unheard-of", "😀", "   "])
def test_a_query_of_which_nothing_is_known_has_no_candidates_and_says_so(tmp_path, query):
    found = search(open_bm25(corpus_of(TEXTS), tmp_path), query)
    assert not len(found) and found.notes == (NOTHING_KNOWN,)


def test_a_corpus_without_words_can_be_indexed(tmp_path):
    assert not len(search(open_bm25(corpus_of({"a": "…", "b": ""}), tmp_path), "words"))


def test_the_index_is_made_once_and_another_one_for_other_texts_or_another_language(tmp_path):
    corpus = corpus_of(TEXTS, "en")
    told = []
    first = search(open_bm25(corpus, tmp_path, lambda *stage: told.append(stage)), "cat mouse")
    assert told == [(4, 4, "passages of tiny indexed by bm25")]
    again = search(open_bm25(corpus, tmp_path, lambda *stage: told.append(stage)), "cat mouse")
    assert len(told) == 1 and again.ranking == first.ranking
    open_bm25(corpus_of(TEXTS, "de"), tmp_path)
    open_bm25(corpus_of(TEXTS | {"more": "fish"}, "en"), tmp_path)
    assert len(list((tmp_path / "bm25").iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "data.csc.index.npy").write_bytes(b"\x93NUMPY"),
        lambda folder: (folder / "indices.csc.index.npy").unlink(),
        lambda folder: (folder / "vocab.index.json").write_text("{"),
        lambda folder: (folder / "params.index.json").write_text('{"num_docs": 9}'),
        lambda folder: np.save(folder / "data.csc.index.npy", np.zeros(1, dtype=np.float32)),
    ],
)
def test_a_damaged_index_is_set_aside_and_made_again(tmp_path, damage):
    corpus = corpus_of(TEXTS, "en")
    whole = search(open_bm25(corpus, tmp_path), "cat")
    [folder] = (tmp_path / "bm25").iterdir()
    damage(folder)
    os.utime(folder, (1, 1))  # last used long ago
    found = search(open_bm25(corpus, tmp_path), "cat")
    assert found.ranking == whole.ranking and "was damaged" in found.notes[0]
    assert len(list((tmp_path / "bm25").iterdir())) == 2  # the damaged one is kept
    assert not search(open_bm25(corpus, tmp_path), "cat").notes


def test_an_index_that_cannot_be_written_stays_in_memory(tmp_path):
    (tmp_path / "bm25").write_text("a file in the way")
    assert len(search(open_bm25(corpus_of(TEXTS), tmp_path), "cat"))


def test_an_index_that_nobody_opened_for_a_month_is_deleted(tmp_path):
    open_bm25(corpus_of(TEXTS), tmp_path)
    [old] = (tmp_path / "bm25").iterdir()
    os.utime(old, (time.time() - 31 * 86400,) * 2)
    open_bm25(corpus_of({"a": "b"}), tmp_path)
    assert not old.exists()


def test_building_stops_when_its_progress_says_so():
    def stop(*stage):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(["a b"], Terms(), "tiny", stop)


# Hybrid


def test_fusion_worked_by_hand():
    first = Ranking.of([("a", 0.9), ("b", 0.8), ("c", 0.7)])
    second = Ranking.of([("c", 12.0), ("a", 3.0)])
    fused = fuse_ranks([first, second])
    assert fused == pytest.approx({"a": 1 / 61 + 1 / 62, "b": 1 / 62, "c": 1 / 63 + 1 / 61})


def test_hits_of_equal_score_share_a_rank_so_that_equal_texts_tie():
    fused = fuse_ranks([Ranking.of([("a", 0.9), ("b", 0.8), ("c", 0.8), ("d", 0.7)])])
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62, "c": 1 / 62, "d": 1 / 64})


def test_a_hybrid_tells_where_its_parts_had_each_candidate(tmp_path):
    corpus = corpus_of(TEXTS, "en")
    dense, words = ExactRetriever(corpus), open_bm25(corpus, tmp_path)
    hybrid = HybridRetriever(find_first_stage("hybrid"), corpus, [dense, words])
    found = search(hybrid, "the cat and the mouse", top_k=3)
    fused = fuse_ranks(
        [
            search(dense, "the cat and the mouse", 100).ranking,
            search(words, "the cat and the mouse", 100).ranking,
        ]
    )
    assert found.ranking.score_by_id == {pid: fused[pid] for pid in found.ranking.passage_ids}
    assert list(found.ranking.score_by_id.values()) == sorted(fused.values(), reverse=True)[:3]
    assert found.parts["bm25"]["cats"] == 1 and set(found.parts) == {"bag", "bm25"}
    assert "birds" not in found.parts["bm25"] and set(found.parts["bag"]) == set(found.ranking.passage_ids)
    assert found.timings_ms.keys() == {"retrieve"} and found.first_stage.score_name == "rrf"


def test_a_hybrid_searches_its_parts_deeper_than_it_is_asked():
    asked = []

    class Part(ExactRetriever):
        def search(self, queries, top_k):
            asked.append(top_k)
            return super().search(queries, top_k)

    corpus = corpus_of(TEXTS)
    hybrid = HybridRetriever(find_first_stage("hybrid"), corpus, [Part(corpus), Part(corpus)])
    search(hybrid, "cat", 20)
    search(hybrid, "cat", 80)
    assert asked == [100, 100, 160, 160]


# Recorded


@pytest.fixture
def recorded(corpus_folder):
    folder = corpus_folder("tiny", TEXTS, {"q1": "cats?", "q2": "dogs?"})
    (folder / "candidates").mkdir()
    run = folder / "candidates" / "yesterday.trec"
    run.write_text(
        "q1 Q0 dogs 1 7.5 acme\nq1 Q0 cats 2 7.5 acme\nq1 Q0 gone 3 7 acme\nq1 Q0 birds 9 8.25 acme\nq1 Q0 birds 9 1 acme\n"
    )
    return folder


def test_recorded_candidates_come_by_score_then_rank(recorded):
    retriever = RecordedRetriever(read_path(recorded), find_first_stage("recorded"))
    found = search(retriever, "cats?", 2, "q1")
    assert [(hit.passage_id, hit.score) for hit in found.ranking] == [("birds", 8.25), ("dogs", 7.5)]
    assert found.tied == 1 and found.first_stage.score_name == "acme score"
    assert found.notes == (
        "yesterday.trec: 1 line names a passage that the corpus lacks; left out.",
        "yesterday.trec: 1 line repeats a passage of its query; left out.",
    )
    assert "no candidates for this query" in search(retriever, "dogs?", 2, "q2").notes[-1]


def test_recorded_candidates_are_chosen_by_name(recorded):
    (recorded / "candidates" / "today.trec").write_text("q1 Q0 cats 1 1 acme\n")
    corpus = read_path(recorded)
    named = RecordedRetriever(corpus, find_first_stage("recorded:today"))
    assert search(named, "", 5, "q1").ranking.passage_ids == ("cats",)
    for key in ("recorded", "recorded:nobody"):
        with pytest.raises(ModelError, match="choose one of recorded:today, recorded:yesterday"):
            RecordedRetriever(corpus, find_first_stage(key))


@pytest.mark.parametrize("line", ["q1 Q0 cats 1 1", "q1 Q0 cats one 1 acme", "q1 Q0 cats 1 nan acme", "{}"])
def test_a_line_that_is_none_of_a_run_is_named(recorded, line):
    (recorded / "candidates" / "yesterday.trec").write_text(f"q1 Q0 cats 1 1 acme\n{line}\n")
    with pytest.raises(CorpusError, match=r"yesterday\.trec:2 is no line of a TREC run"):
        RecordedRetriever(read_path(recorded), find_first_stage("recorded"))


def test_a_run_of_other_passages_is_refused(recorded):
    (recorded / "candidates" / "yesterday.trec").write_text("q1 Q0 elsewhere 1 1 acme\n")
    with pytest.raises(CorpusError, match="has no passage of tiny"):
        RecordedRetriever(read_path(recorded), find_first_stage("recorded"))


# Names


def test_the_names_of_first_stages():
    assert {"minilm", "nomic", "bge-m3", "bm25", "hybrid"} == FIRST_STAGES.keys()
    assert find_first_stage("hybrid:minilm+bm25").key == "hybrid"
    other = find_first_stage("hybrid:nomic+bm25")
    assert other.key == "hybrid:nomic+bm25" and [part.key for part in other.parts] == ["nomic", "bm25"]
    assert other.embedder and other.embedder.key == "nomic" and other.languages == ()


@pytest.mark.parametrize(
    "key",
    [
        "nobody",
        "",
        None,
        3,
        "hybrid:",
        "hybrid:bm25",
        "hybrid:bm25+bm25",
        "hybrid:minilm+hybrid",
        "recorded:",
    ],
)
def test_an_unknown_first_stage_is_refused_with_the_names_there_are(key):
    with pytest.raises(
        ModelError, match=r"unknown first stage .*; choose one of minilm, nomic, bge-m3, bm25, hybrid"
    ):
        find_first_stage(key)

"""What if: an edited passage or query is scored beside the others, and nothing of it stays."""

import pytest

from rag_inspect.errors import InputError
from rag_inspect.pipeline import find_candidates, rerank
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import rank
from rag_inspect.views.explanation import describe_what_if
from rag_inspect.what_if import LONGEST_EDIT, ask_what_if
from tests.evaluating import ExactRetriever, ScriptedReranker, make_corpus

QUERY = "When did the otter meet the heron?"


def score(query, passage):
    return 5.0 * ("needle" in passage.full_text) + len(query) / 100 - len(passage.full_text) / 50


@pytest.fixture
def search():
    corpus = make_corpus(10)
    candidates = find_candidates(ExactRetriever(corpus), corpus, QUERY, 8)
    *_, end = rerank(candidates, ScriptedReranker(score), None, 3)
    return end


def ask(search, passage, **edit):
    return ask_what_if(
        search, passage, ScriptedReranker(score), **{"text": passage.full_text, "query": QUERY} | edit
    )


def test_without_an_edit_nothing_changes(search):
    for passage in search.candidates.in_order:
        found = ask(search, passage)
        assert found.score == found.score_before and found.rank == found.rank_before
        assert describe_what_if(found, "logit").startswith("It would stay ")


def test_an_edited_passage_rises_and_the_others_keep_their_scores(search):
    last = search.candidates.passages[search.ranking.passage_ids[-1]]
    found = ask(search, last, text="needle")
    assert (found.rank_before, found.rank) == (8, 1)
    held = search.ranking.score_by_id
    fourth = sorted((value for pid, value in held.items() if pid != last.passage_id), reverse=True)[2]
    assert found.margin == found.score - fourth > 0
    words = describe_what_if(found, "logit")
    assert (
        words.startswith("It would be 1st instead of 8th: logit ")
        and "above the first passage outside the top 3." in words
    )


def test_a_passage_that_stays_outside_says_how_far_it_is(search):
    last = search.candidates.passages[search.ranking.passage_ids[-1]]
    found = ask(search, last, text=last.full_text + " and more of the same")
    third = search.ranking.hits[2].score
    assert found.rank == 8 and found.margin == found.score - third < 0
    assert "below the last passage in the top 3." in describe_what_if(found, "logit")


def test_with_another_query_all_candidates_are_scored_for_it(search):
    passage = search.candidates.in_order[0]
    found = ask(search, passage, query="otter")
    scores = {each.passage_id: score("otter", each) for each in search.candidates.in_order}
    ranked = rank(search.candidates.ranking, scores)
    assert found.score == scores[passage.passage_id] and found.rank == ranked.rank_by_id[passage.passage_id]


def test_the_original_keeps_its_cached_score(search, tmp_path):
    cache, passage, reranker = (
        ScoreCache(tmp_path / "scores.sqlite"),
        search.candidates.in_order[0],
        ScriptedReranker(score),
    )
    for text in (passage.full_text, "needle", passage.full_text):
        ask_what_if(search, passage, reranker, cache, text=text, query=QUERY)
    assert reranker.read == 2, "the original and the edit, each once"
    known = cache.get(reranker.fingerprint, [(QUERY, passage)])
    assert known[0].score == search.ranking.score_by_id[passage.passage_id]
    cache.close()


@pytest.mark.parametrize("edit", [{"text": ""}, {"text": " \n"}, {"query": ""}, {"query": "\u200b"}])
def test_an_empty_edit_is_refused(search, edit):
    with pytest.raises(InputError, match=r"empty|blank"):
        ask(search, search.candidates.in_order[0], **edit)


def test_a_huge_edit_is_cut_and_says_so(search):
    found = ask(search, search.candidates.in_order[0], text="x" * 100_000)
    assert found.notes == (
        f"The passage has 100,000 characters; the reranker was given the first {LONGEST_EDIT:,}.",
    )


def test_alone_there_is_no_margin():
    corpus = make_corpus(10)
    candidates = find_candidates(ExactRetriever(corpus), corpus, QUERY, 1)
    *_, search = rerank(candidates, ScriptedReranker(score), None, 1)
    found = ask(search, search.candidates.in_order[0], text="needle")
    assert found.margin is None and describe_what_if(found, "logit").endswith(
        f"instead of {found.score_before:.2f}."
    )

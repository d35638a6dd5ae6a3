"""What a search sends to the Explore tab, moment by moment; the workbench here is a script of moments."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

from rag_inspect.errors import RetrievalError
from rag_inspect.tasks import Stage
from rag_inspect.types import Corpus, CorpusCard, Reranking
from rag_inspect.ui.search_stream import Run, Running, announce_stop, stop_search, stream_search
from rag_inspect.views.sentences import timings_html
from tests.parsing import Page
from tests.searches import MINI, make_reranking

LOADING = Stage(0, 0, "indexing plain")
ASKED = ("which one", "plain", "minilm", "mini", 6, 2, None)
SENTENCE, ASIDE, RANKINGS, FOUND = 0, 1, 2, 4


def make_mini(moment: str = "finished") -> Reranking:
    """A reranking by minilm and mini, whose settings are those of ASKED."""
    search = make_reranking(moment=moment, reranker=MINI)
    stage = replace(search.candidates.first_stage, key="minilm")
    return replace(search, candidates=replace(search.candidates, first_stage=stage, top_k=6))


@dataclass
class Script:
    """Yields these moments for every search; raises those that are errors."""

    moments: tuple[object, ...]
    recorded: Reranking | None = None

    def corpus(self, name: str) -> Corpus:
        return Corpus(CorpusCard(name=name), None, (), (), {})

    def find_recorded(self, corpus: object, query: object) -> Reranking | None:
        return self.recorded

    def search(self, options: object, who: str):
        for moment in self.moments:
            if isinstance(moment, Exception):
                raise moment
            yield moment


def words(outputs, place: int) -> str:
    return Page(outputs[place]).words if isinstance(outputs[place], str) else ""


def test_the_record_is_shown_while_something_loads_and_then_the_live_ranking():
    live = make_mini()
    bench = Script((LOADING, make_mini("partial"), live), recorded=replace(live, summary="As recorded."))
    first, loading, end = stream_search(bench, *ASKED, run=Run())
    assert "As recorded." in words(first, SENTENCE) and "ri-rankings" in first[RANKINGS]
    assert "Recorded with mini" in words(loading, ASIDE) and not isinstance(loading[SENTENCE], str)
    assert end[FOUND].summary == live.summary


def test_a_record_of_other_settings_is_not_shown():
    other = replace(make_mini(), top_n=3)
    loading, end = stream_search(Script((LOADING, make_mini()), recorded=other), *ASKED, run=Run())
    assert words(loading, ASIDE).strip() == "indexing plain …"
    assert loading[SENTENCE] == "", "the headline of an earlier search is gone"
    assert end[FOUND].complete


def test_a_failure_leaves_no_headline():
    bench = Script((RetrievalError("the index is damaged"),))
    [end] = stream_search(
        bench, *ASKED, run=Run()
    )  # a toast would say it twice; outside of a page it is a warning
    assert end[SENTENCE] == "" and "Failed: the index is damaged" in words(end, ASIDE)


def test_stop_says_how_far_the_search_came_and_takes_the_headline_away():
    run = Run()
    search = stream_search(Script((make_mini("partial"), make_mini())), *ASKED, run=run)
    scored = len(next(search)[FOUND].ranking)
    run.stopped.set()
    [end] = search
    assert end[SENTENCE] == "" and f"Stopped: {scored} of 6 passages scored." in words(end, ASIDE)


def test_stop_is_announced_before_the_search_hears_of_it():
    running = Running(on_space=False)
    tab = SimpleNamespace(session_hash="tab", client=None)
    bench = SimpleNamespace(warming=None)
    with running.search(tab) as run:
        said, _ = announce_stop(bench, running, tab)
        assert Page(said).words.strip() == "Stopping …" and not run.stopped.is_set()
        assert not isinstance(stop_search(running, tab, said, None), str) and run.stopped.is_set()
    assert not isinstance(announce_stop(bench, running, tab)[0], str), "none is running"
    # It ended by itself while the announcement was on its way.
    assert stop_search(running, tab, said, make_mini()) == timings_html(make_mini())
    assert "ended before" in Page(stop_search(running, tab, said, None)).words
    assert not isinstance(stop_search(running, tab, "anything else", make_mini()), str)


def test_a_stop_that_comes_too_late_leaves_the_result():
    run = Run()
    search = stream_search(Script((make_mini(),)), *ASKED, run=run)
    assert next(search)[FOUND].complete
    run.stopped.set()
    assert list(search) == []


def test_a_superseded_search_says_nothing_more():
    run = Run()
    search = stream_search(Script((LOADING, make_mini("partial"), make_mini())), *ASKED, run=run)
    next(search)
    run.superseded.set()
    assert list(search) == []

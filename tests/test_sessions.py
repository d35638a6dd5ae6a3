"""Visitors: in public mode everyone sees and stops their own runs and jobs, and nobody else's."""

from dataclasses import replace

import pytest

from rag_inspect.errors import InputError
from rag_inspect.evaluation.turn import Turn
from rag_inspect.options import EvalOptions
from rag_inspect.sessions import LOCAL, Sessions, Visitor
from rag_inspect.workbench import Workbench

ANN, EVE = Visitor("ann"), Visitor("eve")


@pytest.fixture
def public(settings):
    return replace(settings, public=True)


@pytest.fixture
def queued(corpus_folder, settings):
    """start(bench, visitor): a job that waits for its turn, so that it neither loads a model nor ends by itself."""
    corpus_folder("tiny", {"a": "one", "b": "two"}, {"q": "?"}, {"test": {"q": {"a": 1}}})
    turn, jobs = Turn(settings.home, "the test"), []
    assert turn.take()

    def start(bench: Workbench, visitor: Visitor):
        jobs.append(bench.start_evaluation(EvalOptions(corpus="tiny", rerankers=["mini"]), visitor))
        return jobs[-1]

    yield start
    for job in jobs:
        job.stop()
        for _ in job.watch():
            pass
    turn.free()


@pytest.mark.parametrize(
    ("visitor", "owner", "seen"),
    [
        (ANN, ANN.owner, True),
        (EVE, ANN.owner, False),
        (LOCAL, ANN.owner, False),
        (ANN, "", False),
        (LOCAL, LOCAL.owner, False),
        (Visitor(ANN.owner), ANN.owner, False),  # what is written on a run is not the key to it
    ],
)
def test_in_public_mode_a_visitor_sees_their_own_and_on_a_laptop_everything_is_yours(
    settings, public, visitor, owner, seen
):
    assert Sessions(public).may_see(visitor, owner) is seen
    assert Sessions(settings).may_see(visitor, owner)


def test_an_owner_says_nothing_of_the_visitor():
    assert "ann" not in ANN.owner and len(ANN.owner) == 64 and ANN.owner != EVE.owner
    assert LOCAL.owner == "" and Visitor("\ud800").owner
    assert len({Visitor.new() for _ in range(100)}) == 100


@pytest.mark.parametrize("sent", [None, "", 7, True, ["ann"], {"visitor_id": "ann"}])
def test_what_is_no_id_is_nobody(sent):
    assert Visitor.from_browser(sent) == LOCAL


def test_a_stranger_neither_watches_nor_stops_a_visitors_job(public, queued):
    bench = Workbench(public)
    job = queued(bench, ANN)
    assert bench.job(job.job_id, ANN) is job
    for stranger in (EVE, LOCAL, Visitor(ANN.owner)):
        assert bench.job(job.job_id, stranger) is None
    assert bench.job("none", ANN) is None and bench.job("", ANN) is None


def test_the_page_stops_and_polls_for_nobody_but_the_visitor(public, queued):
    from rag_inspect.ui import build_app

    bench = Workbench(public)
    job = queued(bench, ANN)
    functions = [made.fn for made in build_app(bench).fns.values()]
    handlers = {getattr(getattr(fn, "func", fn), "__name__", ""): fn for fn in functions}
    words = [str(value) for value in handlers["poll"](job.job_id, 0, "eve", None).values()]
    assert any("was lost" in word for word in words) and not any("tiny" in word for word in words)
    assert any("queued" in str(value) for value in handlers["poll"](job.job_id, 0, "ann", None).values())
    for sent in ("eve", "", None, ["ann"]):
        assert "Nothing is running" in handlers["_stop"](job.job_id, sent) and not job.over
    assert "Stopping" in handlers["_stop"](job.job_id, "ann")
    list(job.watch())
    assert job.stopped


def test_on_a_laptop_any_job_is_yours(settings, queued):
    bench = Workbench(settings)
    job = queued(bench, LOCAL)
    assert bench.job(job.job_id) is job and bench.job(job.job_id, ANN) is job


def test_a_job_that_nobody_could_stop_is_not_begun(public, queued):
    bench = Workbench(public)
    with pytest.raises(InputError, match="no visitor id yet"):
        queued(bench, LOCAL)
    assert bench.jobs.running == []


def test_what_a_browsers_name_is_sealed_with_outlives_a_restart(settings):
    secret = Sessions(settings).browser_secret
    assert len(secret) == 32 and Sessions(settings).browser_secret == secret
    path = settings.home / "browser.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"\xff")
    assert len(Sessions(settings).browser_secret) == 32

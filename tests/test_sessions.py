"""Visitors: in public mode everyone sees and stops their own runs and jobs, and nobody else's."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rag_inspect.admission import Asker
from rag_inspect.errors import InputError
from rag_inspect.evaluation.turn import Turn
from rag_inspect.options import EvalOptions
from rag_inspect.sessions import LOCAL, Sessions, Visitor
from rag_inspect.workbench import Workbench

ANN, EVE = Visitor("ann"), Visitor("eve")
TAB = SimpleNamespace(session_hash="a tab")


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
    job, request = queued(bench, ANN), SimpleNamespace(session_hash="a tab")
    functions = [made.fn for made in build_app(bench).fns.values()]
    handlers = {getattr(getattr(fn, "func", fn), "__name__", ""): fn for fn in functions}
    words = [str(value) for value in handlers["poll"](request, job.job_id, 0, "eve", None).values()]
    assert any("was lost" in word for word in words) and not any("tiny" in word for word in words)
    assert any(
        "queued" in str(value) for value in handlers["poll"](request, job.job_id, 0, "ann", None).values()
    )
    for sent in ("eve", "", None, ["ann"]):
        assert "Nothing is running" in handlers["_stop"](job.job_id, sent) and not job.over
    assert "Stopping" in handlers["_stop"](job.job_id, "ann")
    list(job.watch())
    assert job.stopped


def test_opening_the_tab_does_not_replace_the_word_about_a_lost_job(settings, corpus_folder):
    from rag_inspect.ui import build_app

    corpus_folder(passages={"p": "words"})
    functions = [made.fn for made in build_app(Workbench(settings)).fns.values()]
    handlers = {getattr(getattr(fn, "func", fn), "__name__", ""): fn for fn in functions}
    for job_id, said in (("lost", "Not run yet."), ("", "Your last evaluation was lost")):
        shown = {
            part.elem_id: value
            for part, value in handlers["show_first"](TAB, job_id, "", "tiny", None, said).items()
        }
        assert isinstance(shown["eval-progress"], dict), "gradio's word for: leave it"


@pytest.mark.parametrize(
    ("followed", "explored", "corpus"),
    [
        (None, "other", "other"),
        ("tiny", "other", "other"),
        ("", "other", None),  # one was chosen on Evaluate
        ("tiny", "tiny", None),
        ("tiny", None, None),
        ("tiny", "nowhere", None),
    ],
)
def test_evaluate_follows_explore_unless_one_was_chosen_there_or_a_job_runs(
    public, queued, corpus_folder, followed, explored, corpus
):
    from rag_inspect.ui import build_app

    corpus_folder("other", passages={"p": "words"})
    bench = Workbench(public)
    job = queued(bench, ANN)
    functions = [made.fn for made in build_app(bench).fns.values()]
    follow = next(fn for fn in functions if getattr(fn, "__name__", "") == "follow")
    for visitor, taken in (("eve", corpus), ("ann", None)):
        first, *_ = follow(job.job_id, visitor, "tiny", ["minilm"], followed, explored).values()
        assert (first if isinstance(first, str) else None) == taken


def test_on_a_laptop_any_job_is_yours(settings, queued):
    bench = Workbench(settings)
    job = queued(bench, LOCAL)
    assert bench.job(job.job_id) is job and bench.job(job.job_id, ANN) is job


def test_a_job_that_nobody_could_stop_is_not_begun(public, queued):
    bench = Workbench(public)
    with pytest.raises(InputError, match="no visitor id yet"):
        queued(bench, LOCAL)
    assert bench.jobs.running == []


def test_the_page_holds_no_secret(settings):
    from rag_inspect.ui import build_app

    kept = [
        part for part in build_app(Workbench(settings)).config["components"] if part["type"] == "browserstate"
    ]
    assert len(kept) == 2 and {part["props"]["secret"] for part in kept} == {"rag-inspect"}
    assert not list(settings.home.glob("*secret*"))


def test_a_visitor_who_waits_is_not_told_what_another_evaluates(public, queued):
    job = queued(Workbench(public), ANN)
    for stage in job.watch(0.05):
        if "queued" in stage.what:
            break
    assert "another evaluation" in stage.what and "the test" not in stage.what
    job.stop()


def test_whose_turn_it_is_stays_private(tmp_path):
    secret, other = Turn(tmp_path, "secret corpus with mini", private=True), Turn(tmp_path, "other")
    assert secret.take() and not other.take() and other.holder == "another evaluation"
    assert not any(b"secret corpus" in path.read_bytes() for path in tmp_path.iterdir())
    secret.free()


def test_each_visitor_has_so_many_evaluations_and_the_machine_so_many(public, queued):
    bench = Workbench(public)
    jobs = [queued(bench, visitor) for visitor in (ANN, ANN, EVE, EVE)]
    with pytest.raises(InputError, match="you already have 2 evaluations"):
        queued(bench, ANN)
    jobs += [queued(bench, Visitor(name)) for name in ("b", "b", "c", "c")]
    with pytest.raises(InputError, match="this machine already has 8 evaluations"):
        queued(bench, Visitor("d"))
    with pytest.raises(InputError, match="this machine already has 8 evaluations"):
        next(bench.evaluate(EvalOptions(corpus="tiny", rerankers=["mini"]), who=Asker("an API client")))
    jobs[0].stop()
    list(jobs[0].watch())
    queued(bench, Visitor("d"))


def test_a_record_drawn_while_an_evaluation_starts_does_not_replace_it(settings, corpus_folder, monkeypatch):
    from rag_inspect.ui import build_app, eval_opening

    corpus_folder(passages={"p": "words"})
    newest = []
    opening_of = eval_opening._Opening.__init__
    monkeypatch.setattr(
        eval_opening._Opening,
        "__init__",
        lambda own, page, bench, new: (newest.append(new), opening_of(own, page, bench, new))[1],
    )
    functions = [made.fn for made in build_app(Workbench(settings)).fns.values()]
    handlers = {getattr(getattr(fn, "func", fn), "__name__", ""): fn for fn in functions}
    draw = eval_opening.show_recorded
    assert len(handlers["show_first"](TAB, "", "ann", "tiny", "other", "Not run yet.")) > 1

    def start_meanwhile(page, bench, name):
        newest[0].begin(TAB, "a new job")
        return draw(page, bench, name)

    monkeypatch.setattr(eval_opening, "show_recorded", start_meanwhile)
    left = handlers["show_first"](TAB, "", "ann", "tiny", "other", "Not run yet.")
    assert [part.elem_id for part in left] == ["eval-progress"]

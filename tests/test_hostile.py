"""Hostile requests against a running public app: what they hold up, what they leave behind, what they are told."""

import json
import threading
import time

import httpx
import pytest

from rag_inspect.errors import InputError
from rag_inspect.evaluation.turn import Turn
from rag_inspect.options import PUBLIC_QUERY, EvalOptions
from rag_inspect.sessions import Visitor
from rag_inspect.settings import Settings
from rag_inspect.ui.guard import Listeners
from rag_inspect.ui.mailboxes import MOST
from rag_inspect.workbench import Workbench
from tests.browsing import FRUIT, wait_until, write_corpus

ASKED = "where do apples keep"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("public")
    write_corpus(root / "corpora" / "fruit", FRUIT, {ASKED: "p0"})
    many = [f"passage {number}" for number in range(200)]
    write_corpus(root / "corpora" / "vast", many, {f"query {number}": "p0" for number in range(126)})
    settings = Settings(
        root / "home", corpora_dir=root / "corpora", hub_endpoint="http://127.0.0.1:9", hub_offline=True, public=True
    )  # fmt: skip
    return Workbench(settings)


@pytest.fixture(scope="module")
def app(bench):
    from rag_inspect.ui import serve

    app = serve(
        bench, host="127.0.0.1", prevent_thread_lock=True, quiet=True, listeners=Listeners(patience=1.0)
    )
    yield app
    app.close()


@pytest.fixture
def http(app):
    with httpx.Client(base_url=app.local_url, timeout=60) as client:
        yield client


def start(http, name, **named):
    """Begin a call of the API without listening to it; returns its event's id."""
    answer = http.post(f"/gradio_api/call/v2/{name}", json=named)
    assert answer.status_code == 200, answer.text
    return answer.json()["event_id"]


def listen(http, name, event_id):
    """(the last event, its data) of a call."""
    lines = http.get(f"/gradio_api/call/{name}/{event_id}").text.strip().splitlines()
    return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


def call(http, name, **named):
    return listen(http, name, start(http, name, **named))


@pytest.fixture
def waiting(bench):
    """The machine's turn is taken, so that evaluations wait; at the end all have gone."""
    turn = Turn(bench.settings.home, "the test")
    wait_until(turn.take)
    yield
    wait_until(lambda: not len(bench.evaluations))
    turn.free()


def test_large_posts_are_refused_and_leave_nothing(app, http):
    sessions = app.server_app.state_holder.session_data
    for number in range(5):
        body = {"data": ["x" * 70_000], "fn_index": 0, "session_hash": f"large{number}"}
        answer = http.post("/gradio_api/queue/join", json=body)
        assert answer.status_code == 413 and "larger than 64,000 bytes" in answer.json()["detail"]
    assert not any(name.startswith("large") for name in sessions)
    assert app.server_app.state_holder.capacity == 200


def test_results_that_nobody_fetches_are_dropped_and_the_next_one_still_comes(app, http):
    kept = app._queue.pending_messages_per_session
    first, *_ = [start(http, "search", query="x", corpus="none") for _ in range(MOST // 3 + 10)]
    wait_until(lambda: not len(app._queue) and not any(app._queue.active_jobs))
    event, said = call(http, "search", query="x", corpus="none")
    assert event == "error" and "unknown corpus" in said["error"]
    assert sum(box.qsize() for box in kept.values()) <= MOST and first not in kept
    assert first not in app._queue.pending_event_ids_session


@pytest.mark.parametrize("letter", ["\U0001f99c", "\u8a9e"], ids=["four bytes", "escaped"])
def test_the_longest_query_passes_and_one_longer_gets_a_word(http, letter):
    for length, event in ((PUBLIC_QUERY, "complete"), (PUBLIC_QUERY + 1, "error")):
        asked = {"query": letter * length, "corpus": "fruit", "top_k": 3}
        body = json.dumps(asked, ensure_ascii=letter == "\u8a9e").encode()
        answer = http.post(
            "/gradio_api/call/v2/search", content=body, headers={"content-type": "application/json"}
        )
        found, said = listen(http, "search", answer.json()["event_id"])
        assert found == event and (event == "complete" or "at most 10,000 here" in said["error"])


def test_a_post_of_another_site_is_refused_by_the_running_app(http):
    answer = http.post(
        "/gradio_api/call/search", json={"data": []}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403 and answer.headers["x-content-type-options"] == "nosniff"


def test_evaluations_that_wait_lock_nobody_out_and_end_when_nobody_listens(bench, http, waiting):
    for number in range(bench.evaluations.most):
        http.headers["X-Forwarded-For"] = f"198.51.100.{number % 2}"
        start(http, "eval", corpus="fruit")
    wait_until(lambda: len(bench.evaluations) == bench.evaluations.most)
    event, said = call(http, "eval", corpus="fruit")
    assert (
        event == "error" and "already has 8 evaluations running or waiting; try again later" in said["error"]
    )
    assert call(http, "search", query=ASKED, corpus="fruit")[0] == "complete"
    assert http.get("/").status_code == 200
    wait_until(lambda: not len(bench.evaluations))


def test_sessions_made_up_at_one_address_leave_room_for_others(bench, http, waiting):
    for number in range(bench.evaluations.each_address):
        http.headers["X-Forwarded-For"] = (
            f"192.0.2.{number}, 198.51.100.1"  # the first is the client's own word
        )
        start(http, "eval", corpus="fruit")
    wait_until(lambda: len(bench.evaluations) == bench.evaluations.each_address)
    event, said = call(http, "eval", corpus="fruit")
    assert event == "error" and "your network address already has 6 evaluations" in said["error"]
    http.headers["X-Forwarded-For"] = "198.51.100.2"
    start(http, "eval", corpus="fruit")
    wait_until(lambda: len(bench.evaluations) == bench.evaluations.each_address + 1)


def test_an_evaluation_that_somebody_hears_goes_on(bench, http, waiting):
    event_id = start(http, "eval", corpus="fruit")
    with http.stream("GET", f"/gradio_api/call/eval/{event_id}") as stream:
        time.sleep(2)  # longer than the patience with those who do not come
        assert len(bench.evaluations) == 1 and stream.status_code == 200


def test_an_evaluation_of_nobody_is_not_saved(bench, http):
    event, [found] = call(http, "eval", corpus="fruit", top_k=3)
    assert event == "complete" and found["queries"] == 1
    assert not list(bench.archive.folder.glob("*.json"))


def test_eight_stuck_searches_do_not_stop_a_ninth(bench, http):
    go_on = threading.Event()
    with bench.loader._models.lease(
        ("reranker", "large"), lambda task: go_on.wait(60), "loading large"
    ) as stuck:
        stuck.task.start()
        for _ in range(8):
            start(http, "search", query=ASKED, corpus="fruit", reranker="large")
        wait_until(lambda: len(bench.searches) == 8)
        assert call(http, "search", query=ASKED, corpus="fruit")[0] == "complete"
        assert len(bench.searches) == 8
        go_on.set()
    wait_until(lambda: not len(bench.searches))


def test_one_search_may_cost_so_much(http):
    event, said = call(http, "search", query="x" * 600, corpus="fruit", top_k=200)
    assert event == "error" and "with top_k 200 expected at most 500 here" in said["error"]


def test_one_evaluation_may_cost_so_much(bench, http):
    event, said = call(http, "eval", corpus="vast", top_k=200)
    assert event == "error" and "25,200 pairs" in said["error"] and "at most 25,000 here" in said["error"]
    with pytest.raises(InputError, match="25,200 pairs"):  # the page learns it before there is a job
        bench.start_evaluation(EvalOptions(corpus="vast", top_k=200), Visitor("ann"))
    assert not bench.jobs.running and not len(bench.evaluations)


def test_no_folder_and_no_download(bench, http):
    event, said = call(http, "search", query="x", corpus=str(bench.settings.corpora_dir / "fruit"))
    assert event == "error" and "unknown corpus" in said["error"]
    event, said = call(http, "search", query="x", corpus="fruit", first_stage="nomic")
    assert event == "error" and "RAG_INSPECT_DOWNLOADS" in said["error"]


DEEP = json.loads("[" * 200 + "]" * 200)


GOOD = {"search": {"query": "x", "corpus": "fruit"}, "eval": {"corpus": "fruit"}}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("search", {"query": None}),
        ("search", {"query": DEEP}),
        ("search", {"corpus": {"a": DEEP}}),
        ("search", {"first_stage": None}),
        ("search", {"first_stage": "hybrid:" + "+" * 500}),
        ("search", {"first_stage": "recorded:../../etc/passwd"}),
        ("search", {"reranker": 5}),
        ("search", {"reranker": DEEP}),
        ("search", {"top_k": 10**18}),
        ("search", {"top_k": True, "top_n": "1"}),
        ("search", {"top_n": [1]}),
        ("eval", {"corpus": None}),
        ("eval", {"reranker": DEEP}),
        ("eval", {"cutoffs": [True]}),
        ("eval", {"cutoffs": DEEP}),
        ("eval", {"cutoffs": [10**18]}),
        ("eval", {"split": None}),
    ],
)
def test_a_malformed_call_gets_a_word(http, name, wrong):
    event, said = call(http, name, **(GOOD[name] | wrong))
    assert event == "error" and len(said["error"]) < 300
    assert "expected" in said["error"] or "choose one of" in said["error"]


def test_a_call_with_too_few_values_gets_a_word(http, capsys):
    answer = http.post("/gradio_api/call/search", json={"data": ["x"]})
    event, said = listen(http, "search", answer.json()["event_id"])
    assert (
        event == "error"
        and said["error"].startswith("/search takes 9 values: query, corpus,")
        and "got 1" in said["error"]
    )
    assert "Traceback" not in capsys.readouterr().err

"""The door of the server: bodies by count, names of the server, posts of other sites, headers, and who listens."""

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder

from rag_inspect.ui.guard import Guard, Listeners, Rules
from rag_inspect.ui.uploads import measure_folder, prepare_uploads, sweep_folder

JOIN, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"
OWN = {"host": "127.0.0.1:7860"}


def request(guard, path="/", method="GET", headers=OWN, chunks=(b"",)):
    """One request through the door: (status, headers, body, how many bytes of the body were taken)."""
    target, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": target, "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    coming, sent, taken = list(chunks), [], 0

    async def receive():
        nonlocal taken
        if not coming:
            return {"type": "http.disconnect"}
        chunk = coming.pop(0)
        taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(coming)}

    async def send(message):
        sent.append(message)

    with ThreadPoolExecutor(1) as pool:  # a browser test before this one leaves a loop in our thread
        pool.submit(asyncio.run, guard(scope, receive, send)).result()
    start, *bodies = sent
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return start["status"], found, b"".join(body.get("body", b"") for body in bodies), taken


async def count_body(scope, receive, send):
    """An app that reads the whole body and says how long it was; a client that leaves is an error, as in Starlette."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left")
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def swallow(scope, receive, send):
    """An app that answers 400 where a body cannot be read, as FastAPI does."""
    try:
        await count_body(scope, receive, send)
    except ConnectionError:
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})


@pytest.mark.parametrize("app", [count_body, swallow])
@pytest.mark.parametrize("said", [None, "3", "0", "-1", "many"])
def test_a_large_body_is_counted_whatever_its_length_says(app, said):
    guard = Guard(app, rules=Rules(max_body=1_000))
    headers = OWN | ({"content-length": said} if said else {})
    status, _, body, taken = request(guard, JOIN, "POST", headers, [b"x" * 400] * 50)
    assert status == 413 and "larger than 1,000 bytes" in json.loads(body)["detail"]
    assert taken == 1_200  # not the other 47 pieces
    assert request(guard, JOIN, "POST", headers, [b"x" * 400] * 2)[2] == b"800"


def test_a_body_that_says_it_is_large_is_not_read_at_all():
    guard = Guard(count_body, rules=Rules(max_body=1_000))
    for said in ("1001", "9" * 400):
        assert request(guard, JOIN, "POST", OWN | {"content-length": said}, [b"x" * 400])[::3] == (413, 0)


def test_an_error_of_the_app_itself_is_not_hidden():
    async def broken(scope, receive, send):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        request(Guard(broken), JOIN, "POST")


def test_uploads_have_a_limit_each_and_in_all(tmp_path):
    (tmp_path / "old").write_bytes(b"x" * 700)
    rules = Rules(public=True, uploads=tmp_path, max_body=10, max_file=200, max_uploads=1_000)
    guard = Guard(count_body, rules=rules)
    assert request(guard, UPLOAD, "POST", chunks=[b"x" * 150])[2] == b"150"
    status, _, body, _ = request(guard, UPLOAD, "POST", OWN | {"content-length": "999999"})
    assert status == 413 and "larger than 200 bytes" in json.loads(body)["detail"]
    guard.arriving = 150  # of somebody else's upload: 150 bytes are left, less than a file may have
    status, _, body, _ = request(guard, UPLOAD, "POST", chunks=[b"x" * 80, b"x" * 80])
    assert status == 413 and "holds all the uploads it can" in json.loads(body)["detail"]
    assert guard.arriving == 150  # what was on its way has left again
    alone = Guard(count_body, rules=Rules(uploads=tmp_path, max_body=10, max_uploads=1_000))
    assert request(alone, UPLOAD, "POST", chunks=[b"x" * 900])[2] == b"900"  # one's own disk


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:7860", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:7860", True),
        ("192.168.1.5:7860", True),  # typed as a number, it is no name that could be rebound
        ("tools.example:80", True),  # --root-path names it
        ("evil.example:7860", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_the_servers_own_names_are_answered(host, own):
    guard = Guard(count_body, rules=Rules(hosts=frozenset({"tools.example"})))
    status, _, body, _ = request(guard, "/config", headers={"host": host})
    assert status == (200 if own else 400)
    assert own or "RAG_INSPECT_PUBLIC=on" in json.loads(body)["detail"]
    assert request(Guard(count_body, rules=Rules(public=True)), headers={"host": host})[0] == 200


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),  # a program
        ({"origin": "http://127.0.0.1:7860"}, False),
        ({"origin": "http://127.0.0.1:7861"}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, True),
        ({"origin": "https://evil.example", "sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"origin": "https://tools.example", "sec-fetch-site": "same-origin"}, False),  # a proxy renamed us
        ({"origin": "https://tools.example", "x-forwarded-host": "tools.example"}, True),
    ],
)
def test_posts_of_another_site_are_refused(headers, refused):
    for method in ("POST", "PUT", "DELETE"):
        assert request(Guard(count_body), JOIN, method, OWN | headers)[0] == (403 if refused else 200)
    assert request(Guard(count_body), "/", "GET", OWN | headers)[0] == 200  # a link from there is welcome


def test_in_public_mode_a_proxys_name_counts_as_ours():
    guard = Guard(count_body, rules=Rules(public=True))
    ours = {
        "host": "10.0.0.3",
        "origin": "https://tools.example",
        "x-forwarded-host": "tools.example, 10.0.0.3",
    }
    assert request(guard, JOIN, "POST", ours)[0] == 200
    assert request(guard, JOIN, "POST", ours | {"origin": "https://evil.example"})[0] == 403


def test_what_writes_files_for_anybody_is_not_offered():
    for path in ("/gradio_api/deep_link?session_hash=x", "/gradio_api/process_recording/"):
        assert request(Guard(count_body), path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/gradio_api/deep_link"])
def test_every_answer_has_the_headers(path):
    found = request(Guard(count_body), path)[1]
    assert found["x-content-type-options"] == "nosniff" and found["referrer-policy"] == "same-origin"
    assert "default-src 'self'" in found["content-security-policy"]
    assert found["content-security-policy"].endswith("frame-ancestors 'self'")
    framed = request(Guard(count_body, rules=Rules(on_space=True)), path)[1]["content-security-policy"]
    assert framed.endswith("frame-ancestors 'self' https://huggingface.co https://*.hf.space")


def test_it_knows_who_listens():
    listeners, seen = Listeners(), []

    async def stream(scope, receive, send):
        seen.append([listeners.has(name) for name in ("ann", "event", "")])
        await count_body(scope, receive, send)

    guard = Guard(stream, listeners=listeners)
    for path in (
        "/gradio_api/queue/data?session_hash=ann",
        "/gradio_api/call/eval/event",
        "/gradio_api/info",
    ):
        request(guard, path)
    request(guard, "/gradio_api/call/eval", "POST")
    assert seen == [[True, False, False], [False, True, False], [False, False, False], [False, False, False]]
    assert not listeners.has("ann") and not listeners.has("event")
    assert not listeners.watch("ann")()  # it may still come


def test_a_client_has_left_when_its_time_is_over_and_nobody_listens():
    listeners = Listeners(patience=0)
    left = listeners.watch("ann")
    time.sleep(0.01)
    assert left()
    with listeners.register("ann"):
        assert not left()


def test_files_of_an_app_that_ended_are_swept_by_age(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "replay.json").write_bytes(b"123")
    sweep_folder(tmp_path, time.time() - 3600)
    assert measure_folder(tmp_path) == 6
    sweep_folder(tmp_path, time.time() + 3600)
    assert not list(tmp_path.iterdir()) and measure_folder(tmp_path / "none") == 0


def test_a_home_that_takes_nothing_leaves_gradios_own_folder(tmp_path):
    (tmp_path / "home").write_text("a file")
    assert prepare_uploads(tmp_path / "home" / "uploads") == Path(get_upload_folder())


def test_a_folder_that_gradio_was_given_is_used_and_not_swept(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "theirs"))
    assert prepare_uploads(tmp_path / "ours") == tmp_path / "theirs"
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    (tmp_path / "ours" / "old").write_text("")
    os.utime(tmp_path / "ours" / "old", (1, 1))
    assert prepare_uploads(tmp_path / "ours") == tmp_path / "ours" and not list((tmp_path / "ours").iterdir())
    assert get_upload_folder() == str(tmp_path / "ours")

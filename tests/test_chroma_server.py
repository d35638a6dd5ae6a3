"""A Chroma server: every request ends in time, and one that came back empty or elsewhere is met again."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from rag_inspect import loading
from rag_inspect.errors import RetrievalError
from rag_inspect.options import SearchOptions
from rag_inspect.retrieval.chroma import explain_failures
from rag_inspect.retrieval.server import TimedSession, open_server
from rag_inspect.workbench import Workbench
from tests.fixed_embedder import FixedEmbedder
from tests.fixed_reranker import FixedReranker
from tests.test_retrieval import free_port


@contextmanager
def talking(*pieces: bytes, every: float = 0.05):
    """A server that accepts, and then says these pieces over and over, slowly; its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def talk(peer):
            try:
                while pieces:
                    for piece in pieces:
                        peer.sendall(piece)
                        time.sleep(every)
                threading.Event().wait(5)
            except OSError:
                pass

        def accept():
            try:
                while True:
                    threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "pieces", [(), (b"HTTP/1.1 200 OK\r\n", b"X-More: words\r\n")], ids=["silent", "slow"]
)
def test_a_request_ends_in_time_whatever_the_server_does(pieces):
    session = TimedSession(deadline=0.3, timeout=5.0)
    with talking(*pieces) as url, pytest.raises(httpx.ReadTimeout, match=r"did not answer within 0\.3 s"):
        session.get(url)


def test_opening_a_silent_server_ends_in_time():
    with talking() as url, pytest.raises(RetrievalError, match=r"the Chroma server failed: .*CHROMA_URL"):
        explain_failures(open_server)(url, silence=0.3)


@pytest.fixture
def server(tmp_path):
    """start(folder) runs a Chroma server at one address, in place of the one before; its address."""
    port, running = free_port(), []

    def start(folder: str) -> str:
        stop()
        chroma = Path(sys.executable).with_name("chroma")
        command = [chroma, "run", "--path", tmp_path / folder, "--host", "127.0.0.1", "--port", str(port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                httpx.get(f"{url}/api/v2/heartbeat", timeout=5)
                return url
            except httpx.HTTPError:
                time.sleep(0.1)
        pytest.fail("the Chroma server did not start")

    def stop() -> None:
        while running:
            running[-1].kill()
            running.pop().wait()

    yield start, stop
    stop()


def test_a_server_that_comes_back_empty_is_met_by_the_next_request(
    server, settings, corpus_folder, monkeypatch
):
    start, stop = server
    embedder = FixedEmbedder()
    monkeypatch.setattr(loading, "load_embedder", lambda key, *rest: embedder)
    monkeypatch.setattr(loading, "load_reranker", lambda key, *rest: FixedReranker())
    corpus_folder("tiny", {f"p{n}": f"passage number {n}" for n in range(30)})
    bench = Workbench(replace(settings, chroma_url=start("first")))

    def ask(text: str) -> int:
        *_, end = bench.search(SearchOptions(query=text, corpus="tiny", reranker="mini"))
        return len(end.ranking)

    assert ask("one") == 20
    start("second")
    with pytest.raises(RetrievalError) as caught:
        ask("two")
    assert "the Chroma server failed" in str(caught.value) and "disk" not in str(caught.value)
    assert ask("three") == 20 and len(embedder.embedded) == 60
    stop()
    with pytest.raises(RetrievalError, match="check that the server of RAG_INSPECT_CHROMA_URL runs"):
        ask("four")
    start("second")
    assert ask("five") == 20 and len(embedder.embedded) == 60
    bench.close()

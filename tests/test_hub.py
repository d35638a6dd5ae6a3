import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from rag_inspect import download as download_module
from rag_inspect import hub as hub_module
from rag_inspect.download import fetch, model_folder
from rag_inspect.embedders import EMBEDDERS, load_embedder
from rag_inspect.errors import ModelError
from rag_inspect.hub import HubProbe, local_folder, locate, read_revision
from rag_inspect.rerankers import RERANKERS, default_reranker, list_models, load_reranker
from rag_inspect.settings import Settings
from rag_inspect.types import Passage
from rag_inspect.workbench import Workbench
from tests.loopback_hub import LoopbackHub, loopback_hub
from tests.tiny_models import write_bge_m3, write_reranker

BASE = RERANKERS["base"]
FETCH = """
import sys
from rag_inspect.download import fetch
from rag_inspect.rerankers import RERANKERS
from rag_inspect.settings import Settings
def progress(done, total, what):
    print(done, flush=True, file=sys.stderr)
print(fetch(RERANKERS["base"], Settings.from_env(), progress))
"""


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_reranker(tmp_path_factory.mktemp("hub") / "base")
    (folder / "README.md").write_text("not needed, not fetched")
    return folder


@pytest.fixture
def hub(base_folder: Path) -> Iterator[LoopbackHub]:
    with loopback_hub() as hub:
        hub.serve(BASE.model, BASE.revision, base_folder)
        yield hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def online(settings: Settings, hub: LoopbackHub, cache: Path) -> Settings:
    return replace(settings, hub_endpoint=hub.endpoint, hub_offline=False)


def files_in(folder: Path) -> set[str]:
    return {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir() and p.suffix != ".lock"
    }


# -- where a model is ----------------------------------------------------------------------------------------


def test_a_folder_in_models_dir_is_found_before_anything_is_asked(
    settings: Settings, cache: Path, tmp_path: Path
) -> None:
    folder = write_reranker(tmp_path / "models" / BASE.model)
    found = locate(BASE, replace(settings, models_dir=tmp_path / "models"))
    assert found.available and found.on_disk and found.path == folder
    assert "revision not checked" in found.reason


def test_a_folder_without_weights_is_no_model(settings: Settings, cache: Path, tmp_path: Path) -> None:
    folder = write_reranker(tmp_path / "models" / BASE.model)
    (folder / "model.safetensors").unlink()
    assert local_folder(BASE, replace(settings, models_dir=tmp_path / "models")) is None


def test_offline_says_so_and_asks_nobody(online: Settings, hub: LoopbackHub) -> None:
    offline = replace(online, hub_offline=True)
    assert "HF_HUB_OFFLINE" in locate(BASE, offline).reason
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set; use mini"):
        fetch(BASE, offline)
    assert hub.asked == []


def test_a_reachable_hub_is_asked_once_for_all_models(online: Settings, hub: LoopbackHub) -> None:
    models = {spec.key: found for spec, found in list_models(online)}
    assert models["mini"].on_disk and models["minilm"].on_disk
    assert models["base"].available and not models["base"].on_disk and models["base"].path is None
    assert models["base"].reason == "choosing it downloads 1.1 GB"
    assert hub.asked == ["HEAD /"]


def test_a_hub_that_refuses_connections_is_known_at_once(settings: Settings, cache: Path) -> None:
    nobody = replace(settings, hub_offline=False, hub_endpoint="http://127.0.0.1:9")
    start = time.monotonic()
    found = locate(BASE, nobody)
    assert not found.available and "http://127.0.0.1:9 cannot be reached" in found.reason
    assert time.monotonic() - start < 3


def test_what_a_hub_answered_is_remembered_for_a_while_by_whoever_keeps_a_probe(
    online: Settings, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = HubProbe()
    list_models(online, probe)
    list_models(online, probe)
    assert hub.asked == ["HEAD /"]
    list_models(online, HubProbe())
    assert hub.asked == ["HEAD /"] * 2, "one listing remembers nothing of another's"
    monkeypatch.setattr(hub_module, "PROBE_LASTS_SECONDS", 0)
    list_models(online, probe)
    assert len(hub.asked) > 2


def test_two_who_ask_at_once_share_one_answer(online: Settings, hub: LoopbackHub) -> None:
    probe = HubProbe()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: probe.obstacle(online), range(8))) == [""] * 8
    assert hub.asked == ["HEAD /"]


def test_a_workbench_asks_the_hub_once_however_often_models_are_listed(
    online: Settings, hub: LoopbackHub
) -> None:
    bench = Workbench(online)
    assert bench.models() == bench.models()
    assert hub.asked == ["HEAD /"]


def test_a_hub_that_never_answers_is_known_within_three_seconds(settings: Settings, cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_hub = replace(
            settings, hub_offline=False, hub_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        start = time.monotonic()
        assert not locate(BASE, silent_hub).available
        assert time.monotonic() - start < 3
        start = time.monotonic()
        with pytest.raises(ModelError, match="RAG_INSPECT_MODELS_DIR/BAAI/bge-reranker-base"):
            model_folder(BASE, silent_hub)
        assert time.monotonic() - start < 3


def test_a_command_ends_soon_after_a_hub_that_never_answers(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "corpus.jsonl").write_text('{"_id": "p", "text": "a passage"}\n')
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "rag_inspect", "search", "words", "--corpus", str(tmp_path / "tiny")]
        process = subprocess.run(
            [*command, "--first-stage", "nomic"],
            env={**os.environ, "HF_ENDPOINT": endpoint, "RAG_INSPECT_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert process.returncode == 1
    assert f"the hub {endpoint} did not answer within 2.5 seconds" in process.stderr.splitlines()[-1]


@contextmanager
def dripping_hub() -> Iterator[str]:
    """A hub that is there, and then answers a byte at a time for as long as anybody reads."""

    def talk(client: socket.socket) -> None:
        with suppress(OSError), client:
            if client.recv(65536).startswith(b"HEAD / "):
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                client.sendall(b" ")
                time.sleep(0.1)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_answers_a_byte_at_a_time_is_given_up(
    settings: Settings, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "ANSWER_SECONDS", 0.5)
    with dripping_hub() as endpoint:
        online = replace(settings, hub_offline=False, hub_endpoint=endpoint)
        with pytest.raises(ModelError, match=r"the hub http://127.* did not answer within 0\.5 seconds"):
            fetch(BASE, online)
    assert not list(cache.glob(".rag-inspect-*"))


# -- a download ----------------------------------------------------------------------------------------------


def test_a_download_is_whole_scores_and_is_not_repeated(
    online: Settings, hub: LoopbackHub, cache: Path
) -> None:
    seen: list[tuple[int, int, str]] = []
    assert default_reranker(online) == "mini"
    reranker = load_reranker("base", online, on_progress=lambda *told: seen.append(told))
    assert len(reranker.score("which index?", [Passage("1", "an index of vectors")])) == 1
    assert BASE.revision in reranker.fingerprint
    folder = local_folder(BASE, online)
    assert folder is not None and folder.parts[-2:] == ("snapshots", BASE.revision)
    assert {path.name for path in folder.iterdir()} <= set(BASE.files)
    done = [told[0] for told in seen]
    assert done == sorted(done) and done[0] == 0 and done[-1] == seen[-1][1]
    assert done[-1] == sum(path.stat().st_size for path in folder.iterdir())
    assert not list(cache.glob(".rag-inspect-*"))

    asked = len(hub.asked)
    assert model_folder(BASE, replace(online, hub_offline=True)) == folder
    assert locate(BASE, online).path == folder and default_reranker(online) == "base"
    assert len(hub.asked) == asked


def test_a_pytorch_bin_comes_the_same_way(online: Settings, hub: LoopbackHub, tmp_path: Path) -> None:
    spec = EMBEDDERS["bge-m3"]
    hub.serve(spec.model, spec.revision, write_bge_m3(tmp_path / "bge-m3"))
    assert load_embedder("bge-m3", online).embed_queries(["a star"]).shape == (1, 32)


def test_a_connection_cut_once_is_taken_up_again(online: Settings, hub: LoopbackHub) -> None:
    hub.failure = "cut once"
    assert fetch(BASE, online).is_dir()
    assert hub.cuts == 1 and hub.count_requests("/lfs/") == 2


FAILURES = {
    "404": "no such model or revision",
    "401": "refuses access \\(401",
    "403": "refuses access \\(403",
    "gated": "refuses access \\(403; a gated or private model needs HF_TOKEN\\)",
    "500": "answered with an error \\(500\\)",
    "cut": "the download failed",
    "wrong bytes": "model.safetensors arrived with the wrong checksum",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_one_line_leaves_nothing_and_can_be_tried_again(
    failure: str, online: Settings, hub: LoopbackHub, cache: Path
) -> None:
    hub.failure = failure  # type: ignore[assignment]
    start = time.monotonic()
    with pytest.raises(ModelError, match=FAILURES[failure]) as caught:
        fetch(BASE, online)
    message = str(caught.value)
    assert message.startswith("base (BAAI/bge-reranker-base at 2cfc18c9): ") and "\n" not in message
    assert "use mini" in message and "RAG_INSPECT_MODELS_DIR/BAAI/bge-reranker-base" in message
    assert time.monotonic() - start < 15
    assert files_in(cache) == set()
    assert local_folder(BASE, online) is None and default_reranker(online) == "mini"
    hub.failure = None
    assert fetch(BASE, online).is_dir()


def test_a_failure_leaves_what_the_cache_held_before(online: Settings, hub: LoopbackHub, cache: Path) -> None:
    other = replace(BASE, revision="a" * 40)
    hub.serve(other.model, other.revision, hub.folders[BASE.model, BASE.revision])
    kept = fetch(other, online)
    hub.failure = "wrong bytes"
    before = files_in(cache)
    with pytest.raises(ModelError):
        fetch(BASE, online)
    assert files_in(cache) == before and local_folder(other, online) == kept
    hub.failure = None
    assert fetch(BASE, online) != kept and local_folder(other, online) == kept


def test_an_exception_of_the_listener_cancels(online: Settings, cache: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done:
            raise InterruptedError("stop")

    with pytest.raises(InterruptedError, match="stop"):
        fetch(BASE, online, stop)
    assert files_in(cache) == set()


# -- no space ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache on a file system of 64 KiB; skipped where none can be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_too_small_a_disk_is_known_before_the_download(
    online: Settings, hub: LoopbackHub, small_disk: Path
) -> None:
    with pytest.raises(ModelError, match=r"no space left.* needed, .* free in"):
        fetch(BASE, online)
    assert hub.count_requests("/lfs/") == 0 and files_in(small_disk) == set()


@pytest.mark.filterwarnings("ignore:Not enough free disk space")
def test_a_disk_that_fills_up_meanwhile(
    online: Settings, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "_check_space", lambda folder, needed: None)
    with pytest.raises(ModelError, match=r"no space left.*Errno 28"):
        fetch(BASE, online)
    assert files_in(small_disk) == set()


def test_no_space_left_where_nothing_can_be_mounted(
    online: Settings, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from huggingface_hub import file_download

    def full(url: str, temp_file: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(ModelError, match="no space left"):
        fetch(BASE, online)
    assert files_in(cache) == set()


# -- two at once, and a killed one ---------------------------------------------------------------------------


def start_fetching(settings: Settings, cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"HF_ENDPOINT": settings.hub_endpoint, "HF_HUB_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", FETCH],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_process_waits_and_shares(online: Settings, hub: LoopbackHub, cache: Path) -> None:
    hub.seconds_a_chunk = 0.1
    both = [start_fetching(online, cache) for _ in range(2)]
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0] and hub.count_requests("/lfs/") == 1


def test_a_second_thread_waits_shares_and_hears_how_far_it_is(online: Settings, hub: LoopbackHub) -> None:
    hub.seconds_a_chunk = 0.1
    told: list[str] = []
    first = threading.Thread(target=fetch, args=(BASE, online))
    first.start()
    wait_until(lambda: hub.count_requests("/lfs/") == 1)
    assert fetch(BASE, online, lambda done, total, what: told.append(what)).is_dir()
    first.join()
    assert hub.count_requests("/lfs/") == 1
    assert told and all(what.endswith("downloaded by another process") for what in told)


def test_a_killed_download_is_not_taken_for_a_whole_one(
    online: Settings, hub: LoopbackHub, cache: Path
) -> None:
    hub.seconds_a_chunk = 0.3
    process = start_fetching(online, cache)
    wait_until(lambda: hub.count_requests("/lfs/") == 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert local_folder(BASE, online) is None and list(cache.glob(".rag-inspect-*"))
    hub.seconds_a_chunk = 0
    assert fetch(BASE, online).is_dir()
    assert not list(cache.glob(".rag-inspect-*"))


def test_where_downloads_are_off_nothing_is_fetched_and_the_word_says_so(
    online: Settings, hub: LoopbackHub
) -> None:
    closed = replace(online, downloads=False)
    here = locate(BASE, closed)
    assert not here.available and "RAG_INSPECT_DOWNLOADS" in here.reason
    with pytest.raises(ModelError, match="switched off here"):
        fetch(BASE, closed)
    assert not hub.asked
    assert not Settings.from_env({"SPACE_ID": "a/b"}).downloads
    assert Settings.from_env({"SPACE_ID": "a/b", "RAG_INSPECT_DOWNLOADS": "on"}).downloads


def test_a_folder_that_goes_while_it_is_counted_counts_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_bytes(b"123")
    assert download_module._count_arrived_bytes(tmp_path) == 3

    def gone(folder: Path, pattern: str) -> Iterator[Path]:
        raise FileNotFoundError(pattern)

    monkeypatch.setattr(Path, "rglob", gone)
    assert download_module._count_arrived_bytes(tmp_path) == 0


@pytest.mark.parametrize("changed", ["tokenizer.json", "config.json", "1_Pooling/config.json"])
def test_a_folder_with_other_small_files_is_another_model(tmp_path: Path, changed: str) -> None:
    folder = write_bge_m3(tmp_path / "model")
    before = read_revision(BASE, folder)
    assert read_revision(BASE, folder) == before
    (folder / changed).write_text((folder / changed).read_text() + " ")
    assert read_revision(BASE, folder) != before

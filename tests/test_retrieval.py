"""The first stage: the true order, an index that survives a kill, and servers that are not there."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from rag_inspect.errors import RetrievalError
from rag_inspect.pipeline import find_candidates
from rag_inspect.retrieval import DenseRetriever, connect, delete_unused
from rag_inspect.retrieval.chroma import stamp_opened
from rag_inspect.retrieval.dense import BATCH
from rag_inspect.types import Corpus, CorpusCard, Passage, Query
from tests.fixed_embedder import FixedEmbedder

WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "jetty",
    "knoll",
    "larch",
    "maple",
    "nacre",
    "ocean",
    "pearl",
]


def corpus_of(texts: dict[str, str], name: str = "tiny") -> Corpus:
    return Corpus(CorpusCard(name=name), Path(name), tuple(Passage(pid, text) for pid, text in texts.items()))


def random_corpus(count: int, seed: int = 0) -> Corpus:
    chance = np.random.default_rng(seed)
    return corpus_of({f"p{n}": " ".join(chance.choice(WORDS, 9)) for n in range(count)})


def retrieved(retriever: DenseRetriever, query: str, top_k: int):
    [candidates] = retriever.search([Query("", query)], top_k)
    return candidates.ranking, candidates.in_order


CORPUS, EMBEDDER = random_corpus(300), FixedEmbedder(dimensions=32)


@pytest.fixture
def client(settings):
    return connect(settings)


@pytest.fixture
def whole(client):
    """A whole index of 300 passages."""
    retriever = DenseRetriever(client, CORPUS, FixedEmbedder(dimensions=32))
    assert retriever.index() == 300
    return retriever


# The order


@pytest.mark.parametrize("top_k", [1, 20, 200])
def test_the_ranking_is_that_of_every_cosine_computed(whole, top_k):
    vectors = EMBEDDER.embed_passages(CORPUS.passages)
    chance = np.random.default_rng(1)
    queries = [Query("", " ".join(chance.choice(WORDS, 4))) for _ in range(40)]
    for query, candidates in zip(queries, whole.search(queries, top_k), strict=True):
        ranking, passages = candidates.ranking, candidates.in_order
        cosines = vectors @ EMBEDDER.embed_queries([query.text])[0]
        best = np.argsort(-cosines.round(6), kind="stable")[:top_k]
        assert [hit.score for hit in ranking] == pytest.approx(cosines[best].tolist(), abs=1e-5)
        assert ranking.passage_ids == tuple(passage.passage_id for passage in passages)
        assert [hit.rank for hit in ranking] == list(range(1, top_k + 1))
        assert [cosines[int(pid[1:])] for pid in ranking.passage_ids] == pytest.approx(
            cosines[best].tolist(), abs=1e-5
        )


def test_passages_come_with_the_vectors_the_index_holds(whole):
    _, passages = retrieved(whole, "amber fjord", 5)
    for passage in passages:
        assert passage.embedding is not None and passage.embedding.embedder == EMBEDDER.fingerprint
        assert passage.embedding.values.dtype == np.float32
        [expected] = EMBEDDER.embed_passages([passage])
        assert passage.embedding.values == pytest.approx(expected, abs=1e-6)


def test_a_vector_is_fetched_from_the_index_once(client, monkeypatch):
    corpus = random_corpus(80, seed=3)
    retriever = DenseRetriever(client, corpus, FixedEmbedder(dimensions=32))
    retriever.index()
    fetched: list[str] = []
    get = retriever._collection.get
    monkeypatch.setattr(
        retriever._collection,
        "get",
        lambda ids, include: fetched.extend(ids) or get(ids=ids, include=include),
    )
    first, again = retrieved(retriever, "amber fjord", 10), retrieved(retriever, "amber fjord", 20)
    assert len(fetched) == len(set(fetched)) == 20
    assert [passage.passage_id for passage in again[1]] == list(again[0].passage_ids)
    assert all(
        (old.embedding.values == new.embedding.values).all()
        for old, new in zip(first[1], again[1], strict=False)
    )


def test_a_passage_that_is_lost_while_the_index_is_asked_is_a_clear_word(client, monkeypatch):
    retriever = DenseRetriever(client, random_corpus(40, seed=4), FixedEmbedder(dimensions=32))
    retriever.index()
    get = retriever._collection.get
    monkeypatch.setattr(retriever._collection, "get", lambda ids, include: get(ids=ids[1:], include=include))
    with pytest.raises(RetrievalError, match=r"lost 1 passage during .*'p\d+'.* run it again"):
        retrieved(retriever, "amber fjord", 10)


def test_equal_cosines_keep_the_order_of_the_corpus_even_where_top_k_cuts_them(client):
    texts = {f"other{n}": f"{WORDS[n]} {WORDS[n + 1]}" for n in range(10)}
    texts |= {f"same{n}": "pearl pearl" for n in (7, 3, 9, 1, 5)}
    retriever = DenseRetriever(client, corpus_of(texts), FixedEmbedder(dimensions=32))
    retriever.index()
    for top_k in (1, 3, 5):
        ranking, _ = retrieved(retriever, "pearl", top_k)
        assert ranking.passage_ids == ("same7", "same3", "same9", "same1", "same5")[:top_k]


def test_a_deeper_ranking_begins_with_the_shallower_one(whole):
    deep, _ = retrieved(whole, "heron inlet", 200)
    for top_k in (1, 7, 20, 30, 150):
        ranking, _ = retrieved(whole, "heron inlet", top_k)
        assert ranking.hits == deep.hits[:top_k]


def test_top_k_past_the_end_gives_every_passage(client):
    retriever = DenseRetriever(client, random_corpus(7), FixedEmbedder())
    retriever.index()
    ranking, _ = retrieved(retriever, "cedar", 200)
    assert sorted(ranking.passage_ids) == [f"p{n}" for n in range(7)]


def test_one_passage_is_a_corpus(client):
    retriever = DenseRetriever(client, corpus_of({"only": "amber"}), FixedEmbedder())
    assert retriever.index() == 1
    assert retrieved(retriever, "pearl", 20)[0].passage_ids == ("only",)


def test_many_queries_come_back_in_their_order(whole):
    queries = ["amber birch", "pearl ocean", "grove"]
    together = whole.search([Query("", query) for query in queries], 10)
    assert [found.query.text for found in together] == queries
    assert [found.ranking for found in together] == [retrieved(whole, query, 10)[0] for query in queries]


def test_ids_may_hold_anything(client):
    ids = [
        "a/b c",
        "日本語",
        "😀",
        "<script>",
        "'; DROP TABLE embeddings; --",
        "%00",
        "a\tb",
        "\u202eabc",
        "x" * 3000,
        "a\x00b",
    ]
    retriever = DenseRetriever(client, corpus_of(dict(zip(ids, WORDS, strict=False))), FixedEmbedder())
    assert retriever.index() == len(ids) and retriever.find_missing() == {}
    assert sorted(retrieved(retriever, "amber", 50)[0].passage_ids) == sorted(ids)


# What is embedded, and how often


def test_what_is_indexed_is_never_embedded_again(client, whole):
    embedder = FixedEmbedder(dimensions=32)
    assert DenseRetriever(client, CORPUS, embedder).index() == 0
    assert DenseRetriever(client, replace(CORPUS, card=CorpusCard(name="renamed")), embedder).index() == 0
    assert embedder.embedded == []


def test_progress_counts_to_the_last_passage(client):
    told: list[tuple[int, int, str]] = []
    retriever = DenseRetriever(client, random_corpus(BATCH + 5), FixedEmbedder())
    retriever.index(lambda *stage: told.append(stage))
    assert [done for done, _, _ in told] == [BATCH, BATCH + 5]
    assert told[0][1:] == (BATCH + 5, "passages of tiny embedded")


def test_a_changed_corpus_is_a_new_index(client, whole):
    first, *rest = CORPUS.passages
    changed = replace(CORPUS, passages=(replace(first, text="something else"), *rest))
    assert len(DenseRetriever(client, changed, FixedEmbedder(dimensions=32)).find_missing()) == 300
    assert whole.find_missing() == {}


def test_another_embedder_is_a_new_index_whatever_its_fingerprint_begins_with(client):
    corpus, names = random_corpus(3), set()
    prints = [
        "nomic-ai/nomic-embed|e5cf|search_query: ",
        "nomic-ai/nomic-embed|e5cf|",
        "BAAI/bge-m3|5617",
        "é 😀",
        "",
    ]
    for fingerprint in prints:
        retriever = DenseRetriever(client, corpus, FixedEmbedder(fingerprint=fingerprint))
        assert retriever.index() == 3
        names.add(retriever.name)
    assert len(names) == len(prints)


INDEXING = """
import sys, time
from pathlib import Path
from rag_inspect.retrieval import DenseRetriever, connect
from rag_inspect.settings import Settings
from tests.fixed_embedder import FixedEmbedder
from tests.test_retrieval import random_corpus

home, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

class Slow(FixedEmbedder):
    def embed_passages(self, passages):
        time.sleep(seconds)
        with log.open("a") as file:
            file.writelines(passage.passage_id + "\\n" for passage in passages)
        return super().embed_passages(passages)

retriever = DenseRetriever(connect(Settings(home=home)), random_corpus(300), Slow(dimensions=32))
retriever.index()
assert retriever.find_missing() == {}
"""


def start_indexing(home: Path, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", INDEXING, str(home), str(log), str(seconds)]
    return subprocess.Popen(command, cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE)


def embedded(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def test_a_killed_process_leaves_an_index_that_is_resumed(settings, tmp_path, whole):
    home, log = tmp_path / "killed", tmp_path / "embedded"
    process = start_indexing(home, log, 0.2)
    deadline = time.monotonic() + 60
    while len(embedded(log)) < 4 * BATCH:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = embedded(log)

    embedder = FixedEmbedder(dimensions=32)
    retriever = DenseRetriever(connect(replace(settings, home=home)), CORPUS, embedder)
    count = retriever.index()
    assert len(embedder.embedded) == count and retriever.find_missing() == {}
    # Of what the killed process had embedded, at most the batch that was in its hands is embedded again.
    assert len(set(before) & set(embedder.embedded)) <= BATCH
    assert set(before) | set(embedder.embedded) == set(CORPUS.passage_by_id)
    assert retrieved(retriever, "amber delta", 50)[0] == retrieved(whole, "amber delta", 50)[0]


def test_two_processes_may_index_at_once(settings, tmp_path, whole):
    home = tmp_path / "both"
    processes = [start_indexing(home, tmp_path / f"embedded{n}", 0.05) for n in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors.decode()
    embedder = FixedEmbedder(dimensions=32)
    retriever = DenseRetriever(connect(replace(settings, home=home)), CORPUS, embedder)
    assert retriever.index() == 0
    assert retrieved(retriever, "amber delta", 200)[0] == retrieved(whole, "amber delta", 200)[0]


# What is not there, or broken


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "nonsense"]
)
def test_an_address_that_is_none(settings, url):
    with pytest.raises(RetrievalError, match="RAG_INSPECT_CHROMA_URL"):
        connect(replace(settings, chroma_url=url))


def test_a_server_that_is_not_there_is_known_at_once(settings):
    began = time.monotonic()
    with pytest.raises(RetrievalError, match="RAG_INSPECT_CHROMA_URL"):
        connect(replace(settings, chroma_url=f"http://127.0.0.1:{free_port()}"))
    assert time.monotonic() - began < 5


def test_a_server_that_says_nothing_is_not_waited_for(settings):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        began = time.monotonic()
        with pytest.raises(RetrievalError, match="RAG_INSPECT_CHROMA_URL"):
            connect(replace(settings, chroma_url=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - began < 15


def test_a_chroma_server_serves_as_the_embedded_one_does(settings, tmp_path, whole):
    port = free_port()
    chroma = Path(sys.executable).with_name("chroma")
    command = [chroma, "run", "--path", tmp_path / "served", "--host", "127.0.0.1", "--port", str(port)]
    remote = replace(settings, chroma_url=f"http://127.0.0.1:{port}")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as server:
        try:
            retriever = DenseRetriever(_once_there(remote), CORPUS, FixedEmbedder(dimensions=32))
            assert retriever.index() == 300 and retriever.index() == 0
            ranking, passages = retrieved(retriever, "amber delta", 50)
            expected, _ = retrieved(whole, "amber delta", 50)
            assert [h.score for h in ranking] == pytest.approx([h.score for h in expected], abs=1e-5)
            assert passages[0].embedding is not None
        finally:
            server.kill()
    with pytest.raises(RetrievalError, match="RAG_INSPECT_CHROMA_URL"):
        retrieved(retriever, "amber delta", 50)


def _once_there(settings):
    deadline = time.monotonic() + 30
    while True:
        try:
            return connect(settings)
        except RetrievalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_broken_index_says_what_to_do(settings):
    (settings.home / "chroma").mkdir(parents=True)
    (settings.home / "chroma" / "chroma.sqlite3").write_bytes(b"no database " * 1000)
    with pytest.raises(RetrievalError, match="delete the folder chroma") as caught:
        connect(settings)
    assert "\n" not in str(caught.value)


def test_a_home_that_is_a_file_says_so(settings):
    settings.home.write_text("")
    with pytest.raises(RetrievalError, match=r"delete the folder chroma|check the disk"):
        connect(settings)


def test_vectors_of_another_width_are_refused(whole, client):
    narrow = DenseRetriever(
        client, CORPUS, FixedEmbedder(dimensions=7)
    )  # it says that it is the same embedder
    with pytest.raises(RetrievalError, match="dimension"):
        retrieved(narrow, "amber", 5)


def test_importing_it_imports_no_chroma():
    code = "import sys, rag_inspect.retrieval; sys.exit('chromadb' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


# Equal texts


def test_equal_texts_are_embedded_once_and_all_of_them_are_found(client):
    texts = {f"dup-{n:04}": "This page is left blank." for n in range(1200)} | {"other": "pearl ocean"}
    embedder = FixedEmbedder(dimensions=32)
    retriever = DenseRetriever(client, corpus_of(texts), embedder)
    assert retriever.index() == len(embedder.embedded) == 2
    ranking, passages = retrieved(retriever, "This page is left blank.", 20)
    assert ranking.passage_ids == tuple(f"dup-{n:04}" for n in range(20))
    assert len({hit.score for hit in ranking}) == 1
    assert len({id(passage.embedding.values) for passage in passages}) == 1


@pytest.mark.parametrize(("top_k", "tied"), [(1, 4), (3, 2), (5, 0)])
def test_what_ties_with_the_last_candidate_is_counted_and_said(client, top_k, tied):
    texts = {f"dup{n}": "pearl pearl" for n in range(5)} | {f"else{n}": WORDS[n] for n in range(5)}
    corpus = corpus_of(texts)
    retriever = DenseRetriever(client, corpus, FixedEmbedder(dimensions=32))
    retriever.index()
    found = find_candidates(retriever, corpus, "pearl", top_k)
    assert found.tied == tied
    assert [f"{tied} more passages tie with the last candidate (cosine " in n for n in found.notes] == (
        [True] if tied else []
    )


def test_a_title_and_a_text_that_read_the_same_are_one_text(client):
    passages = (Passage("a", "two\nthree", "one"), Passage("b", "one\ntwo\nthree"), Passage("c", "else"))
    retriever = DenseRetriever(client, replace(CORPUS, passages=passages), FixedEmbedder())
    assert retriever.index() == 2
    ranking, _ = retrieved(retriever, "one two", 3)
    assert ranking.rank_by_id["a"] == ranking.rank_by_id["b"] - 1


# Failures of the engine, and only those


class PanicException(BaseException):
    """As pyo3 raises it out of the engine's native part."""


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (PanicException("called `Option::unwrap()` on a `None` value"), "delete the folder chroma"),
        (ValueError("Could not connect to a Chroma server. Are you sure it is running?"), "CHROMA_URL"),
        (ConnectionResetError("reset"), "CHROMA_URL"),
        (OSError(28, "No space left on device"), "check the disk"),
    ],
)
def test_a_failure_of_the_engine_is_one_line_with_the_advice_that_fits(whole, monkeypatch, error, advice):
    def fail(**_):
        raise error

    monkeypatch.setattr(whole._collection, "query", fail)
    with pytest.raises(RetrievalError, match=advice) as caught:
        retrieved(whole, "amber", 5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [ValueError("a mistake of ours"), RuntimeError("of torch"), KeyboardInterrupt()]
)
def test_a_mistake_of_ours_is_not_blamed_on_the_disk(whole, monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(whole._collection, "query", fail)
    with pytest.raises(type(error)):
        retrieved(whole, "amber", 5)


@pytest.mark.parametrize("content", [b"no database " * 1000, b""], ids=["garbage", "cut"])
def test_a_damaged_index_says_the_same_each_time(settings, content):
    """Chroma keeps half of a system that failed to open; every second call met that with an AttributeError."""
    folder = settings.home / "chroma"
    DenseRetriever(connect(settings), random_corpus(20), FixedEmbedder()).index()
    forget_open_systems()
    database = folder / "chroma.sqlite3"
    raw = database.read_bytes()
    database.write_bytes(content or raw[: len(raw) // 2])
    for _ in range(4):
        with pytest.raises(RetrievalError, match="delete the folder chroma"):
            DenseRetriever(connect(settings), random_corpus(20), FixedEmbedder()).index()


def forget_open_systems():
    from chromadb.api.shared_system_client import SharedSystemClient

    SharedSystemClient.clear_system_cache()


# What nobody opens any more


def test_collections_unused_for_thirty_days_are_deleted_and_those_of_others_are_not(client, whole):
    day = date(2026, 11, 26)
    old = DenseRetriever(client, random_corpus(5, seed=8), FixedEmbedder())
    old.index()
    client.get_or_create_collection("somebody.elses.collection", embedding_function=None)
    stamp_opened(old._collection, day - timedelta(days=31))
    stamp_opened(whole._collection, day - timedelta(days=29))
    assert delete_unused(client, day, keep=whole.name) == [old.name]
    left = {collection.name for collection in client.list_collections()}
    assert left == {whole.name, "somebody.elses.collection"}
    assert retrieved(whole, "amber", 3)[0]


def test_a_collection_of_an_earlier_version_has_thirty_days_from_now(client):
    day = date(2026, 11, 26)
    name = f"{'0' * 24}.minilm.{'1' * 12}"
    client.get_or_create_collection(name, embedding_function=None, metadata={"corpus": "tiny"})
    assert delete_unused(client, day, keep="") == []
    assert delete_unused(client, day + timedelta(days=30), keep="") == []
    assert delete_unused(client, day + timedelta(days=31), keep="") == [name]


def test_opening_an_index_writes_the_day_down(client, whole):
    stamp_opened(whole._collection, date(2020, 1, 1))
    again = DenseRetriever(client, CORPUS, FixedEmbedder(dimensions=32))
    assert again._collection.metadata["opened"] == date.today().isoformat()

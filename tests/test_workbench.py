"""The composition root: names checked before anything slow, each thing loaded once, nothing mixed."""

import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rag_inspect import workbench
from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import CorpusError, InputError, ModelError, RetrievalError
from rag_inspect.loading import Stage
from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import Search
from rag_inspect.workbench import Workbench
from tests.fixed_embedder import FixedEmbedder
from tests.fixed_reranker import FixedReranker

TEXTS = {f"p{n}": f"passage number {n}" for n in range(30)}
QUERIES = {"q": "which number"}
QRELS = {"test": {"q": {"p3": 1}}}


class Doubles:
    """Stands where models are loaded; counts, and fails as often as it is told."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.failures: list[Exception] = []
        self.embedder = FixedEmbedder()
        self.reranker = FixedReranker({"p3": 5.0})

    def load(self, kind, model):
        self.loaded.append(kind)
        if self.failures:
            raise self.failures.pop(0)
        return model


@pytest.fixture
def doubles(monkeypatch):
    made = Doubles()
    monkeypatch.setattr(workbench, "load_embedder", lambda key, *rest: made.load(key, made.embedder))
    monkeypatch.setattr(workbench, "load_reranker", lambda key, *rest: made.load(key, made.reranker))
    return made


@pytest.fixture
def bench(settings, corpus_folder, doubles):
    corpus_folder("tiny", TEXTS, QUERIES, QRELS)
    return Workbench(settings)


def end(moments) -> Search:
    *_, last = moments
    assert isinstance(last, Search)
    return last


def ask(bench, query="which number", corpus="tiny", **options) -> Search:
    return end(bench.search(query, corpus, reranker="mini", **options))


# What was asked is checked before anything slow


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"corpus": "nope"}, CorpusError, 'no corpus "nope"; there are tiny'),
        ({"corpus": ["tiny"]}, CorpusError, "there are tiny"),
        ({"embedder": "nope"}, ModelError, f'no embedder "nope"; there are {", ".join(EMBEDDERS)}'),
        ({"embedder": ["minilm"]}, ModelError, "no embedder"),
        ({"embedder": ""}, ModelError, "no embedder"),
        ({"reranker": "nope"}, ModelError, f'no reranker "nope"; there are {", ".join(RERANKERS)}'),
        ({"reranker": "x" * 9000}, ModelError, "there are mini, base"),
        ({"query": "  "}, InputError, "blank"),
        ({"query": None}, InputError, "blank"),
        ({"top_k": 0}, InputError, "top_k is 0"),
        ({"top_n": 30}, InputError, "top_n 30 is more than top_k 20"),
    ],
)
def test_a_request_that_makes_no_sense_loads_nothing(bench, doubles, asked, error, said):
    with pytest.raises(error) as caught:
        end(bench.search(**{"query": "which number", "corpus": "tiny", **asked}))
    assert said in str(caught.value) and len(str(caught.value)) < 300
    assert doubles.loaded == [] and not (bench.settings.home / "chroma").exists()


def test_making_a_workbench_makes_nothing_else(settings):
    Workbench(settings)
    assert not settings.home.exists()


# A search


def test_a_search_shows_stages_while_it_loads_and_none_later(bench, doubles):
    first = list(bench.search("which number", "tiny", reranker="mini"))
    assert first[-1].timings_ms.get("load", 1) > 0 and first[-1].reranked.passage_ids[0] == "p3"
    assert all(isinstance(moment, Stage | Search) for moment in first)
    again = list(bench.search("which number", "tiny", reranker="mini"))
    assert all(isinstance(moment, Search) for moment in again) and "load" not in again[-1].timings_ms
    assert (again[-1].scored_pairs, again[-1].cached_pairs) == (0, 20)
    assert doubles.loaded == ["minilm", "mini"]
    assert len(doubles.embedder.embedded) == len(TEXTS)


def test_another_process_finds_the_index_and_the_scores(bench, settings, doubles):
    ask(bench)
    doubles.embedder.embedded.clear()
    assert ask(Workbench(settings)).cached_pairs == 20
    assert doubles.embedder.embedded == []


def test_a_folder_serves_as_well_as_a_name(bench, settings, doubles):
    folder = str(settings.corpora_dir / "tiny")
    by_name, by_folder = ask(bench), ask(bench, corpus=folder)
    assert by_folder.reranked == by_name.reranked and by_folder.gold == by_name.gold
    assert bench.corpus(folder) is bench.corpus(folder)
    assert len(doubles.embedder.embedded) == len(TEXTS)


def test_trouble_with_the_score_cache_is_a_note(bench, settings):
    settings.home.mkdir()
    (settings.home / "scores.sqlite").mkdir()
    done = ask(bench)
    assert done.reranked and any("scores.sqlite" in note for note in done.notes)


def test_searches_over_two_corpora_at_once_do_not_mix(bench, corpus_folder):
    corpus_folder(
        "other", {f"o{n}": f"passage number {n}" for n in range(30)}, QUERIES, {"test": {"q": {"o4": 1}}}
    )
    found: list[Search] = []
    start = threading.Barrier(6)

    def search(corpus):
        start.wait()
        found.extend(ask(bench, f"{query} {corpus}", corpus) for query in range(5))
        found.append(ask(bench, corpus=corpus))

    threads = [threading.Thread(target=search, args=(name,)) for name in ("tiny", "other") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 36
    for done in found:
        mark = "p" if done.corpus == "tiny" else "o"
        assert all(pid.startswith(mark) for pid in done.reranked.passage_ids + tuple(done.gold))
        assert set(done.logits) == set(done.candidates.passage_ids) == set(done.passages)


def test_many_first_searches_index_once(bench, doubles):
    start = threading.Barrier(5)

    def search():
        start.wait()
        ask(bench)

    threads = [threading.Thread(target=search) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(doubles.embedder.embedded) == sorted(TEXTS)
    assert sorted(doubles.loaded) == ["mini", "minilm"]


# What changes, and what fails


def touch(path):
    """Some file systems keep coarse times: make sure that this one moved."""
    later = time.time_ns() + 10**9
    os.utime(path, ns=(later, later))


def test_a_corpus_is_read_again_when_a_file_of_it_changed(bench, corpus_folder):
    before = bench.corpus("tiny")
    assert bench.corpus("tiny") is before
    folder = corpus_folder("tiny", {"a": "one", "b": "two"}, QUERIES, {"test": {"q": {"b": 1}}})
    touch(folder / "corpus.jsonl")
    assert len(bench.corpus("tiny").passages) == 2
    assert set(ask(bench).candidates.passage_ids) == {"a", "b"}


def test_changed_judgements_are_seen_though_the_index_stays(bench, corpus_folder, doubles):
    assert ask(bench).gold == {"p3"}
    folder = corpus_folder("tiny", TEXTS, QUERIES, {"test": {"q": {"p4": 1}}})
    touch(folder / "qrels" / "test.tsv")
    assert ask(bench).gold == {"p4"}
    (folder / "corpus.jsonl").write_text(
        (folder / "corpus.jsonl").read_text().replace('"_id"', '"metadata": {"kind": "page"}, "_id"')
    )
    assert ask(bench).passages["p3"].metadata == {"kind": "page"}
    assert len(doubles.embedder.embedded) == len(TEXTS)


def test_a_listed_corpus_is_called_as_it_is_listed_whatever_its_card_says(bench, corpus_folder):
    folder = corpus_folder("mine", {"a": "one"}, card="name: My help centre\n")
    corpus = bench.corpus("mine")
    assert corpus.name == "mine" in bench.corpora() and corpus.card.title == "My help centre"
    assert bench.corpus("mine") is corpus
    assert (
        bench.corpus(str(folder)).name == "My help centre"
    )  # a folder that was not asked for by a listed name


def test_a_corpus_that_breaks_says_so_and_comes_back(bench, corpus_folder, settings):
    ask(bench)
    path = settings.corpora_dir / "tiny" / "corpus.jsonl"
    good = path.read_text()
    path.write_text(good + "{\n")
    with pytest.raises(CorpusError, match=r"corpus.jsonl:31 is not JSON"):
        ask(bench)
    path.write_text(good)
    touch(path)
    assert ask(bench).reranked


@pytest.mark.parametrize("place", ["first stage", "reranker"])
def test_a_load_that_failed_is_tried_again(bench, doubles, place):
    if place == "reranker":
        bench.embedder().value()
    doubles.failures = [ModelError("the hub is away")]
    with pytest.raises(ModelError, match="the hub is away"):
        ask(bench)
    assert ask(bench).reranked


def test_an_index_that_failed_is_opened_again(bench, settings):
    settings.home.mkdir()
    (settings.home / "chroma").write_text("in the way")
    with pytest.raises(RetrievalError):
        ask(bench)
    (settings.home / "chroma").unlink()
    assert ask(bench).reranked


def test_warming_up_is_told_and_what_goes_wrong_in_it_breaks_nothing(bench, doubles):
    assert bench.warming is None
    doubles.failures = [ModelError("no model yet")]
    bench.warm_up()
    deadline = time.monotonic() + 20
    while bench.warming and time.monotonic() < deadline:
        assert isinstance(bench.warming, Stage | None)
        time.sleep(0.02)
    assert bench.warming is None
    assert ask(bench).reranked


# Defaults


def test_the_default_reranker_is_the_one_that_is_here(settings, tmp_path):
    assert Workbench(settings).default_reranker == "mini"
    folder = tmp_path / "models" / RERANKERS["base"].model
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    assert Workbench(replace(settings, models_dir=tmp_path / "models")).default_reranker == "base"


def test_the_default_corpus(settings, corpus_folder):
    assert Workbench(settings).default_corpus == "resources"
    corpus_folder("aaa", {"a": "one"})
    assert Workbench(settings).default_corpus == "aaa"
    corpus_folder("resources", {"a": "one"})
    assert Workbench(settings).default_corpus == "resources"


def test_the_models_there_are(settings):
    rows = Workbench(settings).models()
    assert {spec.key for spec, _ in rows} == {*EMBEDDERS, *RERANKERS}
    available = {spec.key for spec, here in rows if here.available}
    assert available == {"minilm", "mini"}


def test_the_browsers_secret_outlives_a_restart_and_is_never_readable_by_others(settings, monkeypatch):
    moved, rename = [], Path.replace

    def watch(draft, path):
        moved.append(stat.S_IMODE(draft.stat().st_mode))
        return rename(draft, path)

    monkeypatch.setattr(Path, "replace", watch)
    secret = Workbench(settings).browser_secret
    path = settings.home / "browser.secret"
    assert moved == [0o600] and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Workbench(settings).browser_secret == secret == path.read_text()

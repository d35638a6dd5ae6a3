"""A reranker's weights are loaded when a score is needed, once, and not for a search that the score cache answers."""

import json
import threading
from dataclasses import replace

import pytest
from huggingface_hub import constants

from rag_inspect.errors import ModelError
from rag_inspect.hub import local_folder
from rag_inspect.options import SearchOptions
from rag_inspect.rerankers import RERANKERS, load_reranker
from rag_inspect.store import Store
from rag_inspect.tasks import Stage
from rag_inspect.types import Passage, Reranking, write_search
from rag_inspect.workbench import Workbench
from tests.loopback_hub import loopback_hub
from tests.tiny_models import write_reranker

BASE = RERANKERS["base"]
TEXTS = {f"p{n}": f"a passage about the star number {n}" for n in range(12)}
PASSAGES = [Passage(pid, text) for pid, text in TEXTS.items()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_reranker(tmp_path_factory.mktemp("hub") / "base")


@pytest.fixture
def online(settings, small, tmp_path, monkeypatch):
    """A hub that has a small `base`, and a Hugging Face cache of this test's own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with loopback_hub() as hub:
        hub.serve(BASE.model, BASE.revision, small)
        yield replace(settings, hub_endpoint=hub.endpoint, hub_offline=False)


@pytest.fixture
def bench(online, corpus_folder):
    corpus_folder("tiny", TEXTS, {"q": "which star"}, {"test": {"q": {"p3": 1}}})
    return lambda: Workbench(online)


def spoil(settings):
    """From now on the weights cannot be loaded; the folder is still that of the pinned revision."""
    (local_folder(BASE, settings) / "model.safetensors").write_bytes(b"not weights")


def ask(bench, query="which star", **options):
    *_, end = bench.search(SearchOptions(query=query, corpus="tiny", reranker="base", **options))
    assert isinstance(end, Reranking) and end.complete
    return end


def content(search):
    """The JSON without what may differ: timings, and how much came from the cache."""
    document = write_search([search])
    differ = {"timings_ms", "scored_pairs", "cached_pairs", "cached_ms"}
    return json.dumps({k: v for k, v in document.items() if k not in differ})


def test_a_search_fully_in_the_cache_loads_no_weights_and_says_the_same(bench, online):
    cold = ask(bench())
    spoil(online)
    cached = ask(bench())
    assert (cached.scored_pairs, cached.cached_pairs) == (0, 12)
    assert content(cached) == content(cold) and cached.readings == cold.readings


def test_a_search_that_lacks_one_score_loads_them(bench, online, corpus_folder):
    ask(bench())
    corpus_folder("tiny", TEXTS | {"new": "another star"}, {"q": "which star"})
    fresh = bench()
    assert (ask(fresh).scored_pairs, ask(fresh).cached_pairs) == (1, 13)
    spoil(online)
    with pytest.raises(ModelError, match=r"base: .* cannot be loaded"):
        ask(bench(), "another question")


def test_weights_that_failed_are_tried_again(bench, online):
    ask(bench())
    path = local_folder(BASE, online) / "model.safetensors"
    whole = path.read_bytes()
    spoil(online)
    again = bench()
    with pytest.raises(ModelError, match="cannot be loaded"):
        ask(again, "another question")
    path.write_bytes(whole)
    assert ask(again, "another question").scored_pairs == 12


def test_the_load_is_told_in_stages_and_is_no_part_of_the_rerank(bench, monkeypatch):
    from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker

    warm_up, go = CrossEncoderReranker.warm_up, threading.Event()

    def slowly(reranker, on_progress=None):
        if on_progress:  # scoring asks again, without
            on_progress(0, 0, "loading base")
            go.wait(1.0)
        warm_up(reranker, on_progress)

    ask(bench(), "to fetch and index")
    monkeypatch.setattr(CrossEncoderReranker, "warm_up", slowly)
    moments = list(bench().search(SearchOptions(query="which star", corpus="tiny", reranker="base")))
    assert "loading base" in [str(moment) for moment in moments if isinstance(moment, Stage)]
    assert moments[-1].timings_ms["load"] >= 1000 > moments[-1].timings_ms["rerank"]


def test_two_threads_load_once(small):
    from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker

    reranker, stages, start = CrossEncoderReranker.from_folder(BASE, small, "cpu"), [], threading.Barrier(4)
    scores = []

    def work(number):
        start.wait()
        if number % 2:
            reranker.warm_up(lambda done, total, what: stages.append(what))
        scores.append(reranker.score("which star", PASSAGES))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stages == ["loading base", "warming base up"]
    assert all(each == pytest.approx(scores[0], abs=1e-4) for each in scores) and len(scores) == 4


def test_other_weights_than_those_it_was_opened_with_are_refused(settings, tmp_path):
    """Their scores would go into the cache as those of the weights the fingerprint names."""
    folder = write_reranker(tmp_path / "models" / BASE.model)
    reranker = load_reranker("base", replace(settings, models_dir=tmp_path / "models"))
    write_reranker(folder, positions=516)
    with pytest.raises(ModelError):
        reranker.score("which star", PASSAGES)


def test_weights_that_went_after_it_was_opened_are_a_model_error(settings, tmp_path):
    folder = write_reranker(tmp_path / "models" / BASE.model)
    reranker = load_reranker("base", replace(settings, models_dir=tmp_path / "models"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"base: .* cannot be loaded"):
        reranker.warm_up()


def test_its_memory_is_counted_before_it_is_loaded(small):
    from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker

    reranker = CrossEncoderReranker.from_folder(BASE, small, "cpu")
    estimate = reranker.memory_bytes
    reranker.warm_up()
    assert estimate == pytest.approx(reranker.memory_bytes, rel=0.05) and estimate > 100_000


def test_a_store_weighs_again_what_is_given_back():
    class Growing:
        size = 1

    store = Store(10, lambda thing: thing.size)
    with store.lease("a", lambda task: Growing(), "a") as lease:
        lease.value().size = 20
    assert len(store) == 0


def test_it_can_be_closed_before_it_is_loaded(small):
    from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker

    reranker = CrossEncoderReranker.from_folder(BASE, small, "cpu")
    reranker.close()
    reranker.close()
    with pytest.raises(RuntimeError, match="closed"):
        reranker.score("which star", PASSAGES)

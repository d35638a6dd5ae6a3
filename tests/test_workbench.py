"""The composition root: names checked before anything slow, each thing loaded once, nothing mixed."""

import os
import threading
import time
from dataclasses import replace

import pytest

from rag_inspect import loading
from rag_inspect.admission import Asker
from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import CorpusError, InputError, ModelError, RagInspectError, RetrievalError
from rag_inspect.options import EvalOptions, SearchOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES
from rag_inspect.tasks import Stage
from rag_inspect.types import Reranking
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
    monkeypatch.setattr(loading, "load_embedder", lambda key, *rest: made.load(key, made.embedder))
    monkeypatch.setattr(loading, "load_reranker", lambda key, *rest: made.load(key, made.reranker))
    return made


@pytest.fixture
def bench(settings, corpus_folder, doubles):
    corpus_folder("tiny", TEXTS, QUERIES, QRELS)
    return Workbench(settings)


def end(moments) -> Reranking:
    *_, last = moments
    assert isinstance(last, Reranking)
    return last


def ask(bench, query="which number", corpus="tiny", **options) -> Reranking:
    return end(bench.search(SearchOptions(query=query, corpus=corpus, reranker="mini", **options)))


# What was asked is checked before anything slow


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"corpus": "nope"}, CorpusError, 'unknown corpus "nope"; choose one of tiny'),
        ({"corpus": ["tiny"]}, InputError, "corpus is ['tiny']; expected a string"),
        (
            {"first_stage": "nope"},
            ModelError,
            f'unknown first stage "nope"; choose one of {", ".join(FIRST_STAGES)}',
        ),
        ({"first_stage": ["minilm"]}, ModelError, "unknown first stage"),
        ({"first_stage": ""}, ModelError, "unknown first stage"),
        ({"reranker": "nope"}, ModelError, f'unknown reranker "nope"; choose one of {", ".join(RERANKERS)}'),
        ({"reranker": "x" * 9000}, ModelError, "choose one of mini, base"),
        ({"query": "  "}, InputError, "blank"),
        ({"query": None}, InputError, "query is None; expected a string"),
        ({"top_k": 0}, InputError, "top_k is 0"),
        ({"top_n": 30}, InputError, "top_n cannot exceed top_k (30 > 20)"),
    ],
)
def test_a_request_that_makes_no_sense_loads_nothing(bench, doubles, asked, error, said):
    with pytest.raises(error) as caught:
        end(bench.search(SearchOptions(**{"query": "which number", "corpus": "tiny", **asked})))
    assert said in str(caught.value) and len(str(caught.value)) < 300
    assert doubles.loaded == [] and not (bench.settings.home / "chroma").exists()


def test_making_a_workbench_makes_nothing_else(settings):
    Workbench(settings)
    assert not settings.home.exists()


# A search


def test_the_sweep_deletes_what_was_set_aside_long_ago(bench, settings):
    old = [
        settings.home / "chroma.damaged-20200101-000000",
        settings.home / "bm25" / "a.damaged-20200101-000000",
    ]
    new = settings.home / time.strftime("chroma.damaged-%Y%m%d-%H%M%S")
    for folder in (*old, new):
        folder.mkdir(parents=True)
    bench.sweep()
    assert new.exists() and not any(folder.exists() for folder in old)


def test_a_search_shows_stages_while_it_loads_and_none_later(bench, doubles):
    first = list(bench.search(SearchOptions(query="which number", corpus="tiny", reranker="mini")))
    assert first[-1].timings_ms.get("load", 1) > 0 and first[-1].ranking.passage_ids[0] == "p3"
    assert all(isinstance(moment, Stage | Reranking) for moment in first)
    again = list(bench.search(SearchOptions(query="which number", corpus="tiny", reranker="mini")))
    assert all(isinstance(moment, Reranking) for moment in again) and "load" not in again[-1].timings_ms
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
    assert by_folder.ranking == by_name.ranking and by_folder.candidates.gold == by_name.candidates.gold
    assert bench.corpus(folder) is bench.corpus(folder)
    assert len(doubles.embedder.embedded) == len(TEXTS)


def test_trouble_with_the_score_cache_is_a_note(bench, settings):
    settings.home.mkdir()
    (settings.home / "scores.sqlite").mkdir()
    done = ask(bench)
    assert done.complete and any("scores.sqlite" in note for note in done.notes)


def test_what_a_corpus_lacks_is_noted_and_stops_nobody_who_does_not_need_it(bench, corpus_folder):
    folder = corpus_folder("tiny", {**TEXTS, "blank": " "}, QUERIES, QRELS)
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\tp4\t0.5\n")
    with (folder / "qrels" / "test.tsv").open("a") as judged:
        judged.write("q\tlost\t1\n")
    found, skipped = ask(bench), '1 passage has no visible text and was skipped; the first is "blank".'
    assert found.candidates.gold == {"p3", "lost"} and skipped in found.notes
    assert any("The split dev cannot be read" in note and "dev.tsv:2" in note for note in found.notes)
    *_, evaluation = bench.evaluate(EvalOptions(corpus="tiny", rerankers=("mini",)))
    notes = evaluation.document.notes
    assert skipped in notes and not any("dev" in note for note in notes)
    assert 'The split test judges 1 passage that the corpus does not have; the first is "lost".' in notes
    with pytest.raises(CorpusError, match=r"dev.tsv:2 has the grade '0.5'"):
        [*bench.evaluate(EvalOptions(corpus="tiny", rerankers=("mini",), split="dev"))]


def test_locating_takes_a_place_among_the_searches_and_gives_it_back(bench):
    search, ann = ask(bench, first_stage="bm25"), Asker("ann")
    held = [bench.searches.take(ann) for _ in range(bench.searches.each)]
    passage_id = search.ranking.passage_ids[0]
    with pytest.raises(InputError, match="you already have"):
        bench.locate(search, passage_id, ann)
    held.pop().release()
    assert bench.locate(search, passage_id, ann).passage_id == passage_id
    assert len(bench.searches) == len(held)


def test_explaining_takes_a_place_too_and_in_public_mode_only_short_queries(bench):
    search, ann = ask(bench), Asker("ann")
    passage_id = search.ranking.passage_ids[0]
    held = [bench.searches.take(ann) for _ in range(bench.searches.each)]
    with pytest.raises(InputError, match="you already have"):
        next(bench.explain(search, passage_id, ann))
    for place in held:
        place.release()
    *_, explained = bench.explain(search, passage_id, ann)
    assert explained.complete and explained.score == search.ranking.score_by_id[passage_id]
    with pytest.raises(InputError, match="the nearest ids are"):
        next(bench.explain(search, f"{passage_id}0", ann))
    query = replace(search.candidates.query, text="long " * 300)
    longer = replace(search, candidates=replace(search.candidates, query=query))
    assert next(bench.explain(longer, passage_id, ann))
    bench.settings = replace(bench.settings, public=True)
    with pytest.raises(InputError, match="to explain a passage expected at most 980"):
        next(bench.explain(longer, passage_id, ann))
    assert len(bench.searches) == 0


def test_searches_over_two_corpora_at_once_do_not_mix(bench, corpus_folder):
    corpus_folder(
        "other", {f"o{n}": f"passage number {n}" for n in range(30)}, QUERIES, {"test": {"q": {"o4": 1}}}
    )
    found: list[Reranking] = []
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
        mark = "p" if done.candidates.corpus == "tiny" else "o"
        assert all(pid.startswith(mark) for pid in done.ranking.passage_ids + tuple(done.candidates.gold))
        assert (
            set(done.ranking.passage_ids)
            == set(done.candidates.ranking.passage_ids)
            == set(done.candidates.passages)
        )


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
    assert set(ask(bench).candidates.ranking.passage_ids) == {"a", "b"}


def test_changed_judgements_are_seen_though_the_index_stays(bench, corpus_folder, doubles):
    assert ask(bench).candidates.gold == {"p3"}
    folder = corpus_folder("tiny", TEXTS, QUERIES, {"test": {"q": {"p4": 1}}})
    touch(folder / "qrels" / "test.tsv")
    assert ask(bench).candidates.gold == {"p4"}
    (folder / "corpus.jsonl").write_text(
        (folder / "corpus.jsonl").read_text().replace('"_id"', '"metadata": {"kind": "page"}, "_id"')
    )
    assert ask(bench).candidates.passages["p3"].metadata == {"kind": "page"}
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
    assert ask(bench).complete


@pytest.mark.parametrize("place", ["first stage", "reranker"])
def test_a_load_that_failed_is_tried_again(bench, doubles, place):
    if place == "reranker":
        with bench.loader.embedder() as lease:
            lease.value()
    doubles.failures = [ModelError("the hub is away")]
    with pytest.raises(ModelError, match="the hub is away"):
        ask(bench)
    assert ask(bench).complete


def test_a_reranker_that_cannot_be_loaded_is_left_out_of_an_evaluation_of_others(bench, doubles):
    end(
        bench.search(SearchOptions(query="which number", corpus="tiny", reranker="mini"))
    )  # loads both models
    doubles.failures = [ModelError("base is not here")]
    *_, found = bench.evaluate(EvalOptions(corpus="tiny", rerankers=["base", "mini"]))
    assert [system.key for system in found.outcome.rerankers] == [doubles.reranker.spec.key]
    assert "base was left out: base is not here." in found.document.notes
    doubles.failures = [ModelError("base is not here"), ModelError("large is not here")]
    with pytest.raises(ModelError, match="large is not here"):
        list(bench.evaluate(EvalOptions(corpus="tiny", rerankers=["base", "large"])))


def test_an_index_that_failed_is_opened_again(bench, settings):
    settings.home.mkdir()
    (settings.home / "chroma").write_text("in the way")
    with pytest.raises(RetrievalError):
        ask(bench)
    (settings.home / "chroma").unlink()
    assert ask(bench).complete


def test_warming_up_is_told_and_what_goes_wrong_in_it_breaks_nothing(bench, doubles):
    assert bench.warming is None
    doubles.failures = [ModelError("no model yet")]
    bench.warm_up()
    deadline = time.monotonic() + 20
    while bench.warming and time.monotonic() < deadline:
        assert isinstance(bench.warming, Stage | None)
        time.sleep(0.02)
    assert bench.warming is None
    assert ask(bench).complete


# What is held, and let go


class Closable:
    """A double with a size that notes when it was closed, and fails if it is used afterwards."""

    def __init__(self, double, megabytes):
        self.double, self.memory_bytes, self.closed = double, megabytes * 1_000_000, False

    def close(self):
        self.closed = True

    def __getattr__(self, name):
        assert not self.closed, f"{name} of a closed model"
        return getattr(self.double, name)


@pytest.fixture
def sized(monkeypatch, settings, corpus_folder):
    """A workbench with 10 MB for models, and every model that was loaded, by key, the latest last."""
    loaded: dict[str, list[Closable]] = {}

    def load(make):
        def loading(key, *rest):
            loaded.setdefault(key, []).append(Closable(make(key), 4))
            return loaded[key][-1]

        return loading

    def embedder(key):
        return FixedEmbedder(fingerprint=f"tests/{key}")

    monkeypatch.setattr(loading, "load_embedder", load(embedder))
    monkeypatch.setattr(loading, "load_reranker", load(lambda key: FixedReranker(key=key)))
    corpus_folder("tiny", TEXTS, QUERIES, QRELS)
    bench = Workbench(replace(settings, model_memory_mb=10))
    bench.loaded = loaded
    yield bench
    bench.close()


def test_past_the_memory_the_model_used_longest_ago_is_let_go(sized):
    """Ten MB hold two models of four: the embedder, which every search uses, and one reranker."""
    for key in ("base", "large", "base", "v2-m3"):
        assert end(sized.search(SearchOptions(query="which number", corpus="tiny", reranker=key))).complete
    closed = {key: [model.closed for model in models] for key, models in sized.loaded.items()}
    assert closed == {"minilm": [False], "base": [True, True], "large": [True], "v2-m3": [False]}


def test_another_embedder_takes_the_place_of_the_one_that_only_idle_indexes_hold(sized):
    for embedder in ("minilm", "nomic"):
        assert end(
            sized.search(
                SearchOptions(query="which number", corpus="tiny", first_stage=embedder, reranker="base")
            )
        ).complete
    closed = {key: [model.closed for model in models] for key, models in sized.loaded.items()}
    assert closed == {"minilm": [True], "nomic": [False], "base": [False]}


def test_a_model_is_not_closed_under_a_search(sized):
    """Here its models alone are more than the memory, and others are loaded beside it."""
    moments = sized.search(SearchOptions(query="which number", corpus="tiny", reranker="base", top_k=20))
    while not isinstance(next(moments), Reranking):
        pass
    for key in ("large", "v2-m3"):
        assert end(
            sized.search(SearchOptions(query="another question", corpus="tiny", reranker=key))
        ).complete
    assert end(moments).complete and not any(model.closed for model in sized.loaded["minilm"])
    assert sum(not model.closed for models in sized.loaded.values() for model in models) <= 2


def test_mini_keeps_the_embedder_it_was_given(sized):
    with sized.reranker("mini") as lease:
        lease.value()
        with sized.reranker("base") as other:
            other.value()
        assert not sized.loaded["minilm"][0].closed
    assert sum(not model.closed for models in sized.loaded.values() for model in models) <= 2


def test_twenty_edits_of_the_judgements_leave_one_index(bench, corpus_folder, doubles):
    for number in range(20):
        folder = corpus_folder("tiny", TEXTS, QUERIES, {"test": {"q": {f"p{number}": 1}}})
        later = time.time_ns() + (number + 1) * 10**9
        os.utime(folder / "qrels" / "test.tsv", ns=(later, later))
        assert ask(bench).candidates.gold == {f"p{number}"}
    assert len(bench.loader._indexes) == 1 and len(doubles.embedder.embedded) == len(TEXTS)


def test_only_so_many_indexes_are_open(bench, corpus_folder, monkeypatch):
    for number in range(loading.INDEXES_HELD + 3):
        corpus_folder(f"c{number}", {"a": f"text {number}"})
        assert ask(bench, corpus=f"c{number}").complete
    assert len(bench.loader._indexes) == loading.INDEXES_HELD


def test_closing_lets_go_of_everything_and_stops_what_is_at_work(sized, slow):
    end(sized.search(SearchOptions(query="which number", corpus="tiny", reranker="base")))
    moments = sized.search(
        SearchOptions(query="which number", corpus=slow.corpus("big"), first_stage="nomic", reranker="base")
    )
    next(moments)
    sized.close()
    with pytest.raises(RagInspectError, match="was stopped"):
        end(moments)
    wait_until(lambda: all(model.closed for models in sized.loaded.values() for model in models))
    assert not len(sized.loader._models) and not len(sized.loader._indexes)


# A newer request supersedes an older one


class Slow:
    """Embeds a batch only when it is let; writes corpora of a few batches each."""

    def __init__(self, corpus_folder, monkeypatch):
        self.corpus_folder = corpus_folder
        self.pace = 0.02
        self.begun: list[str] = []
        embed = FixedEmbedder.embed_passages

        def slowly(embedder, passages):
            if len(passages) > 1:
                self.begun.append(passages[0].passage_id.split("-")[0])
                time.sleep(self.pace)
            return embed(embedder, passages)

        monkeypatch.setattr(FixedEmbedder, "embed_passages", slowly)

    def corpus(self, name, passages=3200):
        self.corpus_folder(name, {f"{name}-{n}": f"passage {n} of {name}" for n in range(passages)})
        return name


@pytest.fixture
def slow(corpus_folder, monkeypatch):
    return Slow(corpus_folder, monkeypatch)


def wait_until(true, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)


def test_the_last_of_several_choices_does_not_wait_for_those_before_it(bench, slow, doubles):
    """A is chosen, then B, then C: what nobody waits for any more stops at its next batch, and stays embedded."""
    a, b, c = slow.corpus("a"), slow.corpus("b"), slow.corpus("c", 64)
    for name in (a, b):
        moments = bench.search(SearchOptions(query="which passage", corpus=name, reranker="mini"))
        next(moments)
        wait_until(lambda name=name: name in slow.begun)
        moments.close()
    assert ask(bench, "which passage", c).complete
    time.sleep(0.2)
    settled = len(slow.begun)
    time.sleep(0.2)
    assert len(slow.begun) == settled and settled < 150  # 202 batches are all of them
    already = [pid for pid in doubles.embedder.embedded if pid.startswith("a-")]
    slow.pace = 0.0
    assert ask(bench, "which passage", a).complete
    again = [pid for pid in doubles.embedder.embedded if pid.startswith("a-")]
    assert len(already) >= 32 and len(again) == 3200  # none of them twice


def test_an_index_that_another_waits_for_goes_on(bench, slow):
    name = slow.corpus("a", 640)
    leaver, stayer = (
        bench.search(SearchOptions(query="which passage", corpus=name, reranker="mini")) for _ in range(2)
    )
    next(leaver)
    next(stayer)
    leaver.close()
    assert end(stayer).complete and slow.begun.count("a") == 20


def test_the_warm_up_gives_way(settings, corpus_folder, doubles, slow):
    slow.corpus("resources")
    slow.corpus("other", 64)
    bench = Workbench(settings)
    bench.warm_up()
    wait_until(lambda: "resources" in slow.begun)
    assert ask(bench, "which passage", "other").complete
    wait_until(lambda: bench.warming is None)
    assert slow.begun.count("resources") < 100 and slow.begun.count("other") == 2


def test_a_download_is_not_thrown_away_when_its_index_is_not_wanted_any_more(bench, monkeypatch, doubles):
    go, told = threading.Event(), []

    def download(key, settings, on_progress):
        while not go.wait(0.01):
            on_progress(1, 2, "bytes of a model")
            told.append(1)
        return doubles.load(key, doubles.embedder)

    monkeypatch.setattr(loading, "load_embedder", download)
    moments = bench.search(SearchOptions(query="which number", corpus="tiny", reranker="mini"))
    next(moments)
    moments.close()
    before = len(told)
    wait_until(lambda: len(told) > before + 20)
    go.set()
    assert ask(bench).complete and doubles.loaded == ["minilm", "mini"]


def test_an_evaluation_that_is_stopped_stops_its_indexing(bench, slow, corpus_folder):
    name = slow.corpus("a")
    corpus_folder(
        "a", {f"a-{n}": f"passage {n} of a" for n in range(3200)}, QUERIES, {"test": {"q": {"a-3": 1}}}
    )
    job = bench.start_evaluation(EvalOptions(corpus=name, rerankers=["mini"]))
    wait_until(lambda: "a" in slow.begun)
    job.stop()
    for _ in job.watch(0.01):
        pass
    assert job.stopped
    wait_until(lambda: len(bench.loader._indexes) == 0)
    assert slow.begun.count("a") < 100


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


def test_an_index_that_failed_is_opened_anew_by_the_next_request(bench, monkeypatch):
    assert ask(bench).complete
    with bench.retriever(bench.corpus("tiny")) as index:
        broken = index.value()

    class PanicException(BaseException):
        """As pyo3 raises it: every later call of the same client would hang or fail."""

    def fail(**_):
        raise PanicException("unwrap on a poisoned lock")

    monkeypatch.setattr(broken._collection, "query", fail)
    with pytest.raises(RetrievalError, match="poisoned"):
        ask(bench, "another question")
    assert ask(bench, "another question").complete
    with bench.retriever(bench.corpus("tiny")) as index:
        assert index.value() is not broken

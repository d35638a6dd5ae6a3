"""Recorded examples: they say what a live search says, and are left alone once anything has changed."""

import json
from dataclasses import replace

import pytest

from rag_inspect import pipeline, recording
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import CorpusError
from rag_inspect.recorded import FILE, read_record, record
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES, DenseRetriever, connect, describe_dense
from rag_inspect.settings import BUILT_IN_CORPORA, Settings
from rag_inspect.types import read_search, write_search
from tests.fixed_embedder import FixedEmbedder
from tests.fixed_reranker import FixedReranker

MODELS = FIRST_STAGES, RERANKERS
RECORDED = sorted(path.parent.name for path in BUILT_IN_CORPORA.glob(f"*/{FILE}"))


@pytest.fixture
def tiny(corpus_folder, settings):
    texts = {f"p{n}": f"passage number {n}" for n in range(30)}
    corpus_folder(
        passages=texts, queries={"q": " which number ", "r": "other"}, qrels={"test": {"q": {"p3": 1}}}
    )
    return CorpusLibrary(settings).open("tiny")


@pytest.fixture
def search(tiny, settings):
    """A finished search of tiny, by doubles that wear the names of minilm and mini."""
    embedder, reranker = FixedEmbedder(), FixedReranker({"p3": 5.0})
    embedder.spec, reranker.spec = EMBEDDERS["minilm"], RERANKERS["mini"]
    retriever = DenseRetriever(connect(settings), tiny, embedder)
    retriever.index()
    candidates = pipeline.find_candidates(retriever, tiny, "which number", 12)
    *_, end = pipeline.rerank(candidates, reranker, top_n=4)
    return end


def test_there_and_back_again(search, tiny):
    document = json.loads(json.dumps(write_search([search])))
    [back] = read_search(document, tiny, *MODELS)
    assert write_search([back]) == document
    assert (back.moves, back.verdict) == (search.moves, search.verdict)
    assert back.candidates.query == search.candidates.query


@pytest.mark.parametrize("ms", [0.0, 679.123, None])
def test_what_the_cached_pairs_took_goes_there_and_back(search, tiny, ms):
    document = json.loads(json.dumps(write_search([replace(search, cached_pairs=12, cached_ms=ms)])))
    assert document["cached_ms"] == ms
    [back] = read_search(document, tiny, *MODELS)
    assert back.cached_ms == ms
    del document["cached_ms"]  # as it was written before
    [back] = read_search(document, tiny, *MODELS)
    assert back.cached_ms is None and back.ranking == search.ranking


def test_an_example_that_is_no_query_stops_the_recording_with_one_line(tiny, settings, monkeypatch, capsys):
    (tiny.path / "corpus.yaml").write_text("examples: [q, nobody]")
    monkeypatch.setattr(Settings, "from_env", lambda: settings)
    monkeypatch.setattr("sys.argv", ["recording"])
    assert recording.run() == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert (
        f'{tiny.path / "corpus.yaml"} has the example "nobody"' in err
        and "expected ids of its queries" in err
    )
    assert not (tiny.path / FILE).exists()


def test_several_rerankings_of_the_same_candidates_are_one_document(search, tiny):
    document = json.loads(json.dumps(write_search([search, search])))
    assert len(read_search(document, tiny, *MODELS)) == len(document["rerankings"]) == 2
    assert document["reranked"] == document["rerankings"][0]["reranked"]


def test_a_reranker_that_does_not_tell_what_it_read(search, tiny):
    document = write_search([replace(search, readings={})])
    assert {(hit["read_tokens"], hit["truncated_tokens"]) for hit in document["reranked"]} == {(None, None)}
    [back] = read_search(document, tiny, *MODELS)
    assert back.readings == {}


def test_what_was_recorded_is_found_by_its_id(search, tiny):
    record(tiny, [replace(search, cached_pairs=12, cached_ms=679.0)])
    found = read_record(tiny, "q", *MODELS)
    assert found is not None and found.ranking == search.ranking
    assert found.candidates.gold == search.candidates.gold
    assert (dict(found.timings_ms), found.scored_pairs, found.cached_pairs, found.cached_ms) == ({}, 0, 0, 0)
    assert read_record(tiny, "r", *MODELS) is None
    assert [path.name for path in tiny.path.glob("recorded*")] == [FILE]


def test_without_a_record_there_is_none(tiny):
    assert read_record(tiny, "q", *MODELS) is None


@pytest.mark.parametrize("key", ["minilm", "mini"])
def test_a_record_of_another_revision_is_not_shown(search, tiny, key):
    record(tiny, [search])
    moved = dict(EMBEDDERS | RERANKERS)
    moved[key] = replace(moved[key], revision="new")
    stages = {name: describe_dense(moved[name]) for name in EMBEDDERS}
    assert read_record(tiny, "q", stages, {name: moved[name] for name in RERANKERS}) is None
    assert read_record(tiny, "q", {}, {}) is None


def test_a_record_of_other_texts_is_not_shown(search, tiny):
    record(tiny, [search])
    first, *rest = tiny.passages
    assert (
        read_record(replace(tiny, passages=(replace(first, text="new words"), *rest)), "q", *MODELS) is None
    )
    assert read_record(replace(tiny, queries=()), "q", *MODELS) is None


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b"{}", b"[1]", b'[{"query_id": "q"}]', b"\xff", b"[null]"]
)
def test_a_record_that_is_broken_is_not_shown(tiny, raw):
    (tiny.path / FILE).write_bytes(raw)
    assert read_record(tiny, "q", *MODELS) is None


def test_a_record_without_a_number_is_not_shown(search, tiny):
    record(tiny, [search])
    text = (tiny.path / FILE).read_text()
    (tiny.path / FILE).write_text(text.replace('"score": 5.0', '"score": NaN', 1))
    assert read_record(tiny, "q", *MODELS) is None


# The records that ship


def test_the_corpus_the_page_opens_with_has_a_record():
    assert "resources" in RECORDED


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return connect(Settings(home=tmp_path_factory.mktemp("recorded")))


@pytest.mark.parametrize("name", RECORDED)
def test_a_record_is_what_a_live_search_finds(name, models, index, settings):
    corpus = CorpusLibrary(replace(settings, corpora_dir=BUILT_IN_CORPORA)).open(name)
    records = [read_record(corpus, query_id, *MODELS) for query_id in corpus.card.examples]
    assert all(records), "a record is no longer true; run make record"
    retriever = DenseRetriever(index, _searched(corpus, records), models.minilm)
    retriever.index()
    for query_id, kept in zip(corpus.card.examples, records, strict=True):
        candidates = pipeline.find_candidates(retriever, corpus, "", kept.candidates.top_k, query_id)
        *_, live = pipeline.rerank(candidates, models.mini, top_n=kept.top_n)
        assert (kept.verdict, kept.summary) == (live.verdict, live.summary)
        assert kept.candidates.gold == live.candidates.gold
        for before, now in ((kept.candidates.ranking, live.candidates.ranking), (kept.ranking, live.ranking)):
            assert before.passage_ids == now.passage_ids
            assert [hit.score for hit in before] == pytest.approx([hit.score for hit in now], abs=1e-3)
        assert kept.readings == live.readings and kept.candidates.readings == live.candidates.readings


def _searched(corpus, records):
    """The first corpus whole; of the others the candidates that were recorded, which spares a minute."""
    if corpus.name == "resources":
        return corpus
    wanted = {pid for kept in records for pid in kept.candidates.ranking.passage_ids}
    return replace(corpus, passages=tuple(p for p in corpus.passages if p.passage_id in wanted))


def test_a_corpus_that_is_in_no_folder_has_no_record_and_takes_none(tiny, search):
    nowhere = replace(tiny, path=None)
    assert read_record(nowhere, "q", *MODELS) is None
    with pytest.raises(CorpusError, match="tiny has no folder"):
        record(nowhere, [search])

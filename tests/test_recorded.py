"""Recorded examples: they say what a live search says, and are left alone once anything has changed."""

import json
from dataclasses import replace

import pytest

from rag_inspect import pipeline
from rag_inspect.corpora.library import CorpusLibrary
from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import CorpusError
from rag_inspect.recorded import FILE, from_json, read_record, record
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import ChromaRetriever, connect
from rag_inspect.settings import BUILT_IN_CORPORA, Settings
from tests.fixed_embedder import FixedEmbedder
from tests.fixed_reranker import FixedReranker

MODELS = EMBEDDERS | RERANKERS
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
    retriever = ChromaRetriever(connect(settings), tiny, embedder)
    retriever.index()
    *_, end = pipeline.search("which number", retriever, reranker, top_k=12, top_n=4)
    return end


def test_there_and_back_again(search, tiny):
    document = json.loads(json.dumps(search.to_json()))
    back = from_json(document, tiny, MODELS)
    assert back.to_json() == document
    assert (back.moves, back.verdict, back.query) == (search.moves, search.verdict, search.query)


def test_what_was_recorded_is_found_by_its_text(search, tiny):
    record(tiny, [search])
    found = read_record(tiny, "  which number\n", MODELS)
    assert found is not None and found.reranked == search.reranked and found.gold == search.gold
    assert (dict(found.timings_ms), found.scored_pairs, found.cached_pairs) == ({}, 0, 0)
    assert read_record(tiny, "other", MODELS) is None
    assert [path.name for path in tiny.path.glob("recorded*")] == [FILE]


def test_without_a_record_there_is_none(tiny):
    assert read_record(tiny, "which number", MODELS) is None


@pytest.mark.parametrize("key", ["minilm", "mini"])
def test_a_record_of_another_revision_is_not_shown(search, tiny, key):
    record(tiny, [search])
    assert read_record(tiny, "which number", {**MODELS, key: replace(MODELS[key], revision="new")}) is None
    assert (
        read_record(tiny, "which number", {name: spec for name, spec in MODELS.items() if name != key})
        is None
    )


def test_a_record_of_other_texts_is_not_shown(search, tiny):
    record(tiny, [search])
    first, *rest = tiny.passages
    assert (
        read_record(replace(tiny, passages=(replace(first, text="new words"), *rest)), "which number", MODELS)
        is None
    )
    assert read_record(replace(tiny, queries=()), "which number", MODELS) is None


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"null", b"{}", b"[1]", b'[{"query": "which number"}]', b"\xff", b"[null]"]
)
def test_a_record_that_is_broken_is_not_shown(tiny, raw):
    (tiny.path / FILE).write_bytes(raw)
    assert read_record(tiny, "which number", MODELS) is None


def test_a_record_without_a_number_is_not_shown(search, tiny):
    record(tiny, [search])
    text = (tiny.path / FILE).read_text()
    (tiny.path / FILE).write_text(text.replace('"score": 5.0', '"score": NaN', 1))
    assert read_record(tiny, "which number", MODELS) is None


# The records that ship


def test_the_corpus_the_page_opens_with_has_a_record():
    assert "resources" in RECORDED


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return connect(Settings(home=tmp_path_factory.mktemp("recorded")))


@pytest.mark.parametrize("name", RECORDED)
def test_a_record_is_what_a_live_search_finds(name, models, index, settings):
    corpus = CorpusLibrary(replace(settings, corpora_dir=BUILT_IN_CORPORA)).open(name)
    texts = [corpus.query_by_id[query_id].text for query_id in corpus.card.examples]
    records = [read_record(corpus, text, MODELS) for text in texts]
    assert all(records), "a record is no longer true; run make record"
    retriever = ChromaRetriever(index, _searched(corpus, records), models.minilm)
    retriever.index()
    for text, kept in zip(texts, records, strict=True):
        *_, live = pipeline.search(text, retriever, models.mini, top_k=kept.top_k, top_n=kept.top_n)
        assert (kept.verdict, kept.summary, kept.gold) == (live.verdict, live.summary, live.gold)
        for before, now in ((kept.candidates, live.candidates), (kept.reranked, live.reranked)):
            assert before.passage_ids == now.passage_ids
            assert [hit.score for hit in before] == pytest.approx([hit.score for hit in now], abs=1e-3)
        assert kept.readings == live.readings


def _searched(corpus, records):
    """The first corpus whole; of the others the candidates that were recorded, which spares a minute."""
    if corpus.name == "resources":
        return corpus
    wanted = {pid for kept in records for pid in kept.candidates.passage_ids}
    return replace(corpus, passages=tuple(p for p in corpus.passages if p.passage_id in wanted))


def test_a_corpus_that_is_in_no_folder_has_no_record_and_takes_none(tiny, search):
    nowhere = replace(tiny, path=None)
    assert read_record(nowhere, "which number", MODELS) is None
    with pytest.raises(CorpusError, match="tiny is in no folder"):
        record(nowhere, [search])

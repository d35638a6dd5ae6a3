"""mini: whole, the right file, quick to load, and a reranker that keeps what the training knew."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rag_inspect.embedders import load_embedder
from rag_inspect.errors import ModelError
from rag_inspect.rerankers import RERANKERS, mini
from rag_inspect.rerankers.mini.weights import expand, read_notes
from rag_inspect.settings import Settings
from rag_inspect.training.compress import compress
from rag_inspect.types import Embedding, Passage, hash_text

QUERY = "How long does a goldfish live?"
PASSAGES = [
    Passage("price", "Goldfish cost between two and ten pounds in most aquarium shops."),
    Passage("answer", "With clean water and room to swim, these fish reach ten to fifteen years."),
    Passage("food", "Goldfish eat flakes, pellets and blanched peas once or twice a day."),
    Passage("other", "The ferry to the island leaves every forty minutes from the eastern pier."),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(home=tmp_path_factory.mktemp("home"), device="cpu", hub_offline=True)


@pytest.fixture(scope="module")
def embedder(settings):
    return load_embedder("minilm", settings)


@pytest.fixture(scope="module")
def reranker(settings, embedder):
    return mini.load(RERANKERS["mini"], settings, embedder)


def test_int8_is_a_choice_whose_scores_are_near_and_kept_apart(settings, embedder, reranker):
    quick = mini.load(RERANKERS["mini"], replace(settings, int8=True), embedder)
    assert quick.precision == "int8" and quick.fingerprint != reranker.fingerprint
    assert quick.score(QUERY, PASSAGES) == pytest.approx(reranker.score(QUERY, PASSAGES), abs=2.0)
    assert not settings.int8 and Settings.from_env({"RAG_INSPECT_QUANTIZE": "on"}).int8


def test_the_file_is_small_and_is_the_one_it_should_be():
    assert mini.WEIGHTS.stat().st_size <= 10_000_000
    assert mini.sha256(mini.WEIGHTS) == mini.revision()


def test_the_model_card_is_of_this_file():
    assert mini.revision() in mini.WEIGHTS.with_name("MODEL_CARD.md").read_text(encoding="utf-8")


def test_asking_for_the_revision_imports_no_torch():
    code = "from rag_inspect.rerankers import mini; mini.revision(); import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_tells_a_passage_about_the_matter_from_one_that_is_not(reranker):
    scores = reranker.score(QUERY, PASSAGES)
    assert len(scores) == 4 and np.isfinite(scores).all()
    assert min(scores[:3]) > scores[3]


def test_another_file_under_its_name_is_refused(tmp_path):
    copy = tmp_path / mini.WEIGHTS.name
    copy.write_bytes(mini.WEIGHTS.read_bytes()[:-1] + b"?")
    shutil.copy(mini.checksum_file(mini.WEIGHTS), tmp_path)
    with pytest.raises(ModelError, match="expected"):
        mini.build(copy)


@pytest.mark.parametrize("missing", ["weights", "checksum"])
def test_a_missing_file_is_named(tmp_path, missing):
    copy = tmp_path / mini.WEIGHTS.name
    if missing == "weights":
        shutil.copy(mini.checksum_file(mini.WEIGHTS), tmp_path)
    else:
        shutil.copy(mini.WEIGHTS, tmp_path)
    with pytest.raises(ModelError, match="mini"):
        mini.build(copy)


def test_a_passage_whose_text_was_edited_has_no_vector(embedder, reranker):
    """With its old vector it got another score, which went into the cache as that of a clean passage of that text."""
    [vector] = embedder.embed_passages([PASSAGES[1]])
    whole = replace(
        PASSAGES[1], embedding=Embedding(hash_text(PASSAGES[1].full_text), embedder.fingerprint, vector)
    )
    edited = replace(whole, text="With clean water and room to swim.")
    clean = Passage("clean", edited.text)
    assert whole.vector(embedder.fingerprint) is vector and edited.vector(embedder.fingerprint) is None
    assert replace(whole, title="Goldfish").vector(embedder.fingerprint) is None
    assert reranker.score(QUERY, [edited]) == pytest.approx(reranker.score(QUERY, [clean]), abs=1e-3)


def test_a_score_is_bound_to_the_embedder_of_the_prior_too(settings, embedder, reranker):
    class Half:
        spec, fingerprint = embedder.spec, f"{embedder.fingerprint}|fp16"
        embed_queries, embed_passages = embedder.embed_queries, embedder.embed_passages

    assert mini.load(RERANKERS["mini"], settings, Half()).fingerprint != reranker.fingerprint


def test_a_stored_vector_spares_the_embedding_and_changes_no_score(settings, embedder, reranker):
    class Counting:
        def __init__(self):
            self.spec, self.fingerprint, self.embedded = embedder.spec, embedder.fingerprint, 0

        def embed_queries(self, texts):
            return embedder.embed_queries(texts)

        def embed_passages(self, passages):
            self.embedded += len(passages)
            return embedder.embed_passages(passages)

    counting = Counting()
    vectors = embedder.embed_passages(PASSAGES)
    stored = [
        Passage(p.passage_id, p.text, embedding=Embedding(hash_text(p.text), embedder.fingerprint, v))
        for p, v in zip(PASSAGES, vectors, strict=True)
    ]
    foreign = [
        Passage(p.passage_id, p.text, embedding=Embedding(hash_text(p.text), "another", v[:8]))
        for p, v in zip(PASSAGES, vectors, strict=True)
    ]
    model = mini.load(RERANKERS["mini"], settings, counting)
    expected = reranker.score(QUERY, PASSAGES)
    assert model.score(QUERY, stored) == pytest.approx(expected, abs=1e-3)
    assert counting.embedded == 0
    assert model.score(QUERY, foreign) == pytest.approx(expected, abs=1e-3)
    assert counting.embedded == 4
    model.score(QUERY, foreign)
    assert counting.embedded == 4  # remembered


@pytest.fixture
def trained():
    """(trained, base) of a small layer whose difference is of rank 5 and some noise, as training leaves it."""
    import torch

    seeded = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=seeded)

    base = {"embeddings.word": normal(50, 64), "layer.weight": normal(256, 64), "layer.bias": normal(256)}
    trained = {f"bert.{name}": tensor.clone() for name, tensor in base.items()}
    trained["bert.layer.weight"] += normal(256, 5) @ normal(5, 64) + 0.01 * normal(256, 64)
    trained["bert.layer.bias"] += 1
    return trained | {"classifier.weight": normal(1, 64)}, base


def test_what_is_compressed_and_expanded_is_what_was_trained(tmp_path, trained):
    whole, base = trained
    path = tmp_path / "small.safetensors"
    compress(whole, base, path, notes={"prior_weight": "7"}, budget=5 * (256 + 64))
    back = expand(path, base)
    assert back.keys() == whole.keys()
    for name, tensor in whole.items():
        assert float((back[name] - tensor).norm() / tensor.norm()) < 0.02, name
    assert read_notes(path)["prior_weight"] == "7"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_smaller_budget_makes_a_smaller_file_and_a_greater_error(tmp_path, trained):
    whole, base = trained
    sizes, errors = [], []
    for budget in (1000, 2000, 20000):
        path = tmp_path / f"{budget}.safetensors"
        compress(whole, base, path, notes={}, budget=budget)
        back = expand(path, base)["bert.layer.weight"]
        sizes.append(path.stat().st_size)
        errors.append(float((back - whole["bert.layer.weight"]).norm()))
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)


def test_a_failed_compression_leaves_the_old_file(tmp_path, trained):
    whole, base = trained
    path = tmp_path / "small.safetensors"
    path.write_bytes(b"the old weights")
    with pytest.raises(KeyError):
        compress(whole | {"bert.unknown.weight": whole["bert.layer.weight"]}, base, path, notes={})
    assert path.read_bytes() == b"the old weights"

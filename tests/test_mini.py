"""mini: whole, the right file, quick to load, and a reranker that keeps what the training knew."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from rag_inspect.embedders import load_embedder, minilm_folder
from rag_inspect.errors import ModelError
from rag_inspect.rerankers import mini
from rag_inspect.settings import Settings
from rag_inspect.types import Embedding, Passage

QUERY = "How long does a goldfish live?"
PASSAGES = [
    Passage("price", "Goldfish cost between two and ten pounds in most aquarium shops."),
    Passage("answer", "With clean water and room to swim, these fish reach ten to fifteen years, some thirty."),
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
    return mini.load(settings, embedder)


def test_the_file_is_small_and_is_the_one_it_should_be():
    assert mini.WEIGHTS.stat().st_size <= 10_000_000
    assert mini.sha256(mini.WEIGHTS) == mini.revision()


def test_asking_for_the_revision_imports_no_torch():
    code = "import sys; from rag_inspect.rerankers import mini; mini.revision(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_loads_in_a_second_or_about_as_soon_as_the_embedder(settings, embedder):
    """On a busy machine a second may pass in any file's reading: then loading MiniLM alone is the measure."""

    def seconds(load):
        start = time.perf_counter()
        load()
        return time.perf_counter() - start

    rounds = [
        (seconds(lambda: mini.load(settings, embedder)), seconds(lambda: load_embedder("minilm", settings)))
        for _ in range(3)
    ]
    assert min(mine for mine, _ in rounds) < max(1, 3 * min(embedders for _, embedders in rounds))


def test_it_tells_a_passage_about_the_matter_from_one_that_is_not(reranker):
    scores = reranker.score(QUERY, PASSAGES)
    assert len(scores) == 4 and np.isfinite(scores).all()
    assert min(scores[:3]) > scores[3]


def test_another_file_under_its_name_is_refused(tmp_path):
    copy = tmp_path / mini.WEIGHTS.name
    copy.write_bytes(mini.WEIGHTS.read_bytes()[:-1] + b"?")
    shutil.copy(mini.checksum_file(mini.WEIGHTS), tmp_path)
    with pytest.raises(ModelError, match="has sha256 .*expected"):
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
        Passage(p.passage_id, p.text, embedding=Embedding(embedder.fingerprint, v))
        for p, v in zip(PASSAGES, vectors, strict=True)
    ]
    foreign = [
        Passage(p.passage_id, p.text, embedding=Embedding("another", v[:8]))
        for p, v in zip(PASSAGES, vectors, strict=True)
    ]
    model = mini.load(settings, counting)
    expected = reranker.score(QUERY, PASSAGES)
    assert model.score(QUERY, stored) == pytest.approx(expected, abs=1e-3)
    assert counting.embedded == 0
    assert model.score(QUERY, foreign) == pytest.approx(expected, abs=1e-3)
    assert counting.embedded == 4
    model.score(QUERY, foreign)
    assert counting.embedded == 4  # remembered


def test_compression_keeps_the_order_of_what_was_trained(tmp_path):
    """A model changed at random as much as training changes one: the file ranks as the whole model does."""
    import torch
    from safetensors.torch import load_file

    from rag_inspect.rerankers.mini.weights import as_model, compress, expand

    folder = minilm_folder()
    base = load_file(folder / "model.safetensors")
    shipped = expand(mini.WEIGHTS, base)
    noise = torch.Generator().manual_seed(0)
    trained = {
        name: tensor + 0.02 * tensor.std() * torch.randn(tensor.shape, generator=noise)
        if tensor.dim() == 2 and "embeddings" not in name
        else tensor
        for name, tensor in shipped.items()
    }
    path = tmp_path / "small.safetensors"
    compress(trained, base, path, notes={"prior_weight": "0"})
    assert path.stat().st_size <= 10_000_000
    texts = [" ".join(p.text for p in PASSAGES[at:]) for at in range(4)] + [p.text for p in PASSAGES]
    orders = []
    for state in (trained, expand(path, base)):
        model, tokenizer = as_model(state, folder)
        rows = tokenizer([QUERY] * len(texts), texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            orders.append(model(**rows).logits[:, 0].argsort(descending=True).tolist())
    assert sum(a == b for a, b in zip(*orders, strict=True)) >= len(texts) - 2

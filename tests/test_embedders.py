from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rag_inspect import hub as hub_module
from rag_inspect.embedders import EMBEDDERS, load_embedder
from rag_inspect.errors import ModelError
from rag_inspect.hub import minilm_folder
from rag_inspect.settings import Settings
from rag_inspect.types import Embedder, Passage
from tests.conftest import Models
from tests.tiny_models import make_sentence, write_all

PASSAGES = tuple(
    Passage(str(n), make_sentence(n, 1 + 40 * n), title=f"star {n}" if n % 3 else "") for n in range(10)
)
DIMENSIONS = {"minilm": 384, "nomic": 32, "bge-m3": 32}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def load(models_dir: Path, models: Models) -> Callable[[str], Embedder]:
    settings = Settings(home=models_dir, models_dir=models_dir, hub_offline=True, device="cpu")
    loaded: dict[str, Embedder] = {"minilm": models.minilm}
    return lambda key: loaded.setdefault(key, loaded.get(key) or load_embedder(key, settings))


@pytest.fixture(params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest, load: Callable[[str], Embedder]) -> Embedder:
    return load(request.param)


def test_vectors_are_float32_of_unit_length(embedder: Embedder) -> None:
    assert isinstance(embedder, Embedder)
    dimensions = DIMENSIONS[embedder.spec.key]
    for vectors in (embedder.embed_passages(PASSAGES), embedder.embed_queries(["a star", "", "x" * 9000])):
        assert vectors.dtype == np.float32 and vectors.shape[1] == dimensions
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)
    assert embedder.embed_passages([]).shape == embedder.embed_queries([]).shape == (0, dimensions)


def test_a_vector_depends_on_neither_company_nor_order(embedder: Embedder) -> None:
    together = embedder.embed_passages(PASSAGES)
    assert together == pytest.approx(
        np.concatenate([embedder.embed_passages([p]) for p in PASSAGES]), abs=1e-5
    )
    assert together == pytest.approx(embedder.embed_passages(PASSAGES[::-1])[::-1], abs=1e-5)


def test_any_text_has_a_vector(embedder: Embedder) -> None:
    hostile = ["", " \n", "half a pair \ud83d", "\x00", "🪐 \u202e", "[SEP] </s>", "index " * 10_000]
    assert np.isfinite(embedder.embed_passages([Passage("1", text) for text in hostile])).all()


def test_vectors_are_those_of_sentence_transformers(embedder: Embedder, models_dir: Path) -> None:
    from sentence_transformers import SentenceTransformer

    spec = embedder.spec
    folder = minilm_folder() if spec.key == "minilm" else models_dir / spec.model
    peer = SentenceTransformer(str(folder), device="cpu")
    peer.max_seq_length = spec.max_tokens
    texts = [spec.passage_prefix + passage.full_text for passage in PASSAGES]
    expected = peer.encode(texts, normalize_embeddings=True)
    assert embedder.embed_passages(PASSAGES) == pytest.approx(expected, abs=1e-5)
    query = peer.encode([spec.query_prefix + "a star"], normalize_embeddings=True)
    assert embedder.embed_queries(["a star"]) == pytest.approx(query, abs=1e-5)


def test_prefixes_tell_query_and_passage_apart(load: Callable[[str], Embedder]) -> None:
    for key, different in (("nomic", True), ("minilm", False)):
        query = load(key).embed_queries(["a star"])
        passage = load(key).embed_passages([Passage("1", "a star")])
        assert np.allclose(query, passage, atol=1e-4) is not different


def test_nomic_needs_no_remote_code(load: Callable[[str], Embedder]) -> None:
    model = load("nomic")._model  # type: ignore[attr-defined]
    assert type(model).__module__ == "transformers.models.nomic_bert.modeling_nomic_bert"


def test_the_real_nomic_config_gives_the_real_shape(tmp_path: Path) -> None:
    """Its config.json speaks GPT-2's names, which transformers does not read: its defaults have to fit."""
    import json

    import torch
    from transformers import AutoConfig, AutoModel

    names = {"n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 12, "n_positions": 8192}
    more = {
        "model_type": "nomic_bert",
        "rotary_emb_base": 1000,
        "layer_norm_epsilon": 1e-12,
        "vocab_size": 30528,
    }
    (tmp_path / "config.json").write_text(json.dumps(names | more))
    config = AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == EMBEDDERS["nomic"].parameters
    assert config.rope_parameters["rope_theta"] == 1000 and config.layer_norm_eps == 1e-12


def test_a_repeated_query_is_not_embedded_again(
    load: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    minilm = load("minilm")
    first = minilm.embed_queries(["which planet?"])
    monkeypatch.setattr(minilm, "_forward", None)
    assert (minilm.embed_queries(["which planet?"]) == first).all()


def test_fingerprints_differ(load: Callable[[str], Embedder]) -> None:
    assert len({load(key).fingerprint for key in EMBEDDERS}) == len(EMBEDDERS)


def test_other_weights_than_the_hubs_are_refused(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(hub_module, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"sha256 53aa51172d14…, expected 000000000000…; reinstall"):
        load_embedder("minilm", settings)


def test_an_unknown_name_is_answered_with_the_names(settings: Settings) -> None:
    with pytest.raises(ModelError, match="'mini'; choose one of minilm, nomic, bge-m3"):
        load_embedder("mini", settings)


def test_one_that_is_not_here_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set; use minilm"):
        load_embedder("nomic", replace(settings, hub_offline=True))

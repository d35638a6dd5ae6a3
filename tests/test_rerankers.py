import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rag_inspect.errors import ModelError
from rag_inspect.rerankers import BACKENDS, RERANKERS, default_reranker, list_models, load_reranker
from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker
from rag_inspect.settings import Settings
from rag_inspect.transformer import Weights
from rag_inspect.types import Pair, Passage, Reranker
from tests.conftest import Models
from tests.fixed_reranker import FixedReranker
from tests.tiny_models import make_sentence, write_all, write_reranker

QUERY = "which index keeps its vectors on disk?"
PASSAGES = tuple(
    Passage(str(n), make_sentence(n, 3 + 9 * n), title=f"star {n}" if n % 3 else "") for n in range(8)
)
HOSTILE = (
    "",
    " \n\t ",
    "<script>alert(1)</script> ${alert(1)} C:\\users \\",
    "مرحبا بالعالم \u202e reversed",
    "🪐🔭 👩🏽‍🚀 \U0001f3f4\U000e0067\U000e0062\U000e007f",
    "half a pair \ud83d of a surrogate, and \x00 a zero",
    "</s> <s> [SEP] [CLS] <pad> <mask>",
    "index " * 10_000,
    "x" * 50_000,
)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def rerankers(models_dir: Path, models: Models) -> Callable[[str], Reranker]:
    """Every reranker there is, loaded once: those of the table, and the double that other tests use."""
    settings = Settings(home=models_dir, models_dir=models_dir, hub_offline=True, device="cpu")
    fixed = FixedReranker({passage.passage_id: (7 * n) % 5 for n, passage in enumerate(PASSAGES)})
    loaded: dict[str, Reranker] = {"fixed": fixed, "mini": models.mini}

    def get(key: str) -> Reranker:
        return loaded.setdefault(key, loaded.get(key) or load_reranker(key, settings))

    return get


@pytest.fixture(params=["fixed", *RERANKERS])
def reranker(request: pytest.FixtureRequest, rerankers: Callable[[str], Reranker]) -> Reranker:
    return rerankers(request.param)


@pytest.fixture(params=["base", "v2-m3"])  # two windows; large is base again
def cross_encoder(
    request: pytest.FixtureRequest, rerankers: Callable[[str], Reranker]
) -> CrossEncoderReranker:
    loaded = rerankers(request.param)
    assert isinstance(loaded, CrossEncoderReranker)
    return loaded


# -- what every reranker keeps to ----------------------------------------------------------------------------


def test_it_fulfils_the_protocol(reranker: Reranker) -> None:
    assert isinstance(reranker, Reranker)
    assert reranker.spec.kind == "reranker" and reranker.spec.model in reranker.fingerprint


def test_scores_come_in_input_order_whatever_that_is(reranker: Reranker) -> None:
    scores = reranker.score(QUERY, PASSAGES)
    assert len(set(scores)) > 1
    order = random.Random(1).sample(range(len(PASSAGES)), len(PASSAGES))
    shuffled = reranker.score(QUERY, [PASSAGES[i] for i in order])
    assert shuffled == pytest.approx([scores[i] for i in order], abs=1e-4)


def test_a_score_does_not_depend_on_its_company(reranker: Reranker) -> None:
    scores = reranker.score(QUERY, PASSAGES)
    alone = [reranker.score(QUERY, [passage])[0] for passage in PASSAGES]
    assert scores == pytest.approx(alone, abs=1e-4)


def test_pairs_of_several_queries_score_as_each_query_does(reranker: Reranker) -> None:
    queries = (QUERY, "cheese", "the moon and the river " * 5)
    pairs = [(query, passage) for passage in PASSAGES for query in queries]
    together: dict[int, float] = {}
    for batch in reranker.score_pairs(pairs):
        assert not together.keys() & batch.keys()
        together |= batch
    for at, query in enumerate(queries):
        found = [together[index] for index in range(at, len(pairs), len(queries))]
        assert found == pytest.approx(reranker.score(query, PASSAGES), abs=1e-4)


def test_nothing_to_score(reranker: Reranker) -> None:
    assert reranker.score(QUERY, []) == [] and reranker.readings(QUERY, []) == []
    assert [batch for batch in reranker.score_pairs([]) if batch] == []


def test_any_text_has_a_score_and_a_reading(reranker: Reranker) -> None:
    passages = [Passage(str(n), text) for n, text in enumerate(HOSTILE)]
    assert np.isfinite(reranker.score(QUERY, passages)).all()
    for reading in reranker.readings(QUERY, passages) or []:
        assert 0 <= reading.read <= reading.total
    for query in HOSTILE:
        assert np.isfinite(reranker.score(query, PASSAGES[:2])).all()


def test_an_iteration_can_be_left(reranker: Reranker) -> None:
    batches = reranker.score_pairs([(QUERY, passage) for passage in PASSAGES * 10])
    assert next(iter(batches)) is not None
    batches.close()  # type: ignore[attr-defined]
    assert len(reranker.score(QUERY, PASSAGES)) == len(PASSAGES)


def test_two_threads_get_what_one_gets(reranker: Reranker) -> None:
    expected = reranker.score(QUERY, PASSAGES)
    answers: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(reranker.score(QUERY, PASSAGES))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for answer in answers:
        assert answer == pytest.approx(expected, abs=1e-4)


# -- the local cross-encoders --------------------------------------------------------------------------------


def test_scores_are_the_raw_logits_of_sentence_transformers(
    cross_encoder: CrossEncoderReranker, models_dir: Path
) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    peer = CrossEncoder(
        str(models_dir / cross_encoder.spec.model), device="cpu", activation_fn=torch.nn.Identity()
    )
    peer.max_seq_length = cross_encoder.window
    every = [passage.full_text for passage in PASSAGES] + [text for text in HOSTILE if text.isprintable()]
    for query, texts in ((QUERY, every), ("", every[:4]), ("a very long query " * 200, every[-3:])):
        expected = peer.predict([(query, text) for text in texts])
        scores = cross_encoder.score(query, [Passage(str(n), text) for n, text in enumerate(texts)])
        assert scores == pytest.approx(expected.tolist(), abs=1e-4)
        assert np.argsort(scores).tolist() == np.argsort(expected).tolist()


def test_the_longer_side_is_cut_first(cross_encoder: CrossEncoderReranker) -> None:
    window = cross_encoder.window
    short, long = cross_encoder.readings("a star", [Passage("1", "a moon"), Passage("2", "moon " * 3000)])
    assert short.truncated == 0 and long.total >= 3000
    special = 4
    assert long.read == window - special - cross_encoder.readings("a", [Passage("q", "a star")])[0].total
    (beside_long,) = cross_encoder.readings("moon " * 3000, [Passage("2", "moon " * 3000)])
    assert abs(beside_long.read - (window - special) / 2) <= 1


def test_the_window_of_each(rerankers: Callable[[str], Reranker]) -> None:
    windows = {key: getattr(rerankers(key), "window", None) for key in RERANKERS}
    assert windows == {"mini": 512, "base": 512, "large": 512, "v2-m3": 1024}


class Lengths:
    """A prior: as many points as the passage has characters."""

    fingerprint = "lengths"

    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        return [len(passage.text) for _, passage in pairs]

    def components(self, pairs: Sequence[Pair]) -> dict[str, list[float]]:
        return {"length": self(pairs)}


class Failing(Lengths):
    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        raise ModelError("no prior today")


def test_a_prior_is_added(rerankers: Callable[[str], Reranker]) -> None:
    plain = rerankers("base")
    assert isinstance(plain, CrossEncoderReranker)
    with_prior = CrossEncoderReranker(
        plain.spec,
        Weights.of(plain._model),
        plain._tokenizer,
        plain.device,
        prior=Lengths(),
    )
    expected = [
        score + len(passage.text)
        for score, passage in zip(plain.score(QUERY, PASSAGES), PASSAGES, strict=True)
    ]
    assert with_prior.score(QUERY, PASSAGES) == pytest.approx(expected, abs=1e-3)
    assert with_prior.fingerprint != plain.fingerprint  # a cached score is that of both together


def test_nan_is_passed_on(models_dir: Path) -> None:
    import torch

    broken = CrossEncoderReranker.from_folder(RERANKERS["base"], models_dir / RERANKERS["base"].model, "cpu")
    with torch.no_grad():
        broken._model.classifier.out_proj.bias.fill_(float("nan"))
    assert np.isnan(broken.score(QUERY, PASSAGES)).all()


def test_a_failing_batch_is_heard_of(rerankers: Callable[[str], Reranker]) -> None:
    plain = rerankers("base")
    assert isinstance(plain, CrossEncoderReranker)

    failing = CrossEncoderReranker(
        plain.spec, Weights.of(plain._model), plain._tokenizer, plain.device, prior=Failing()
    )
    with pytest.raises(ModelError, match="no prior today"):
        failing.score(QUERY, PASSAGES)


# -- the table -----------------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_names(settings: Settings) -> None:
    with pytest.raises(ModelError, match="'bass'; choose one of mini, base, large, v2-m3"):
        load_reranker("bass", settings)


def test_every_row_has_code_and_a_pinned_revision() -> None:
    for key, spec in RERANKERS.items():
        assert spec.key == key and spec.backend in BACKENDS
        assert len(spec.revision) in {40, 64} and int(spec.revision, 16)


def test_the_default_is_base_where_it_is_on_disk(settings: Settings, models_dir: Path) -> None:
    assert default_reranker(settings) == "mini"
    assert default_reranker(replace(settings, models_dir=models_dir)) == "base"


def test_the_list_says_what_is_here(settings: Settings, models_dir: Path) -> None:
    here = {spec.key: found.available for spec, found in list_models(settings)}
    assert here == {k: k in {"minilm", "mini"} for k in ("minilm", "nomic", "bge-m3", *RERANKERS)}
    assert all(found.available for _, found in list_models(replace(settings, models_dir=models_dir)))


def test_a_folder_of_another_model_is_refused(settings: Settings, tmp_path: Path, models_dir: Path) -> None:
    target = tmp_path / "models" / RERANKERS["base"].model
    target.parent.mkdir(parents=True)
    target.symlink_to(models_dir / "BAAI" / "bge-m3", target_is_directory=True)
    with pytest.raises(ModelError, match=r"cannot be loaded \(no weights for classifier"):
        load_reranker("base", replace(settings, models_dir=tmp_path / "models")).warm_up()


def test_other_weights_in_the_same_place_are_another_fingerprint(settings: Settings, tmp_path: Path) -> None:
    local = replace(settings, models_dir=tmp_path / "models")
    folder = tmp_path / "models" / RERANKERS["base"].model
    fingerprints = []
    for positions in (514, 516):
        write_reranker(folder, positions)
        fingerprints += [load_reranker("base", local).fingerprint for _ in range(2)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2] == fingerprints[3]


def test_a_broken_file_is_one_line(settings: Settings, tmp_path: Path, models_dir: Path) -> None:
    from shutil import copytree

    folder = copytree(models_dir / RERANKERS["base"].model, tmp_path / "models" / RERANKERS["base"].model)
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"base: .* cannot be loaded") as caught:
        load_reranker("base", replace(settings, models_dir=tmp_path / "models")).warm_up()
    assert "\n" not in str(caught.value)


def test_an_unknown_device_is_refused(settings: Settings, models_dir: Path) -> None:
    with pytest.raises(ModelError, match="device 'abacus' is not available"):
        load_reranker("base", replace(settings, models_dir=models_dir, device="abacus"))


def test_the_tables_import_nothing_heavy() -> None:
    heavy = "torch transformers sentence_transformers chromadb gradio huggingface_hub"
    code = f"import sys, rag_inspect.rerankers, rag_inspect.embedders; print(set('{heavy}'.split()) & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    assert done.stdout.strip() == "set()"

"""Training mini: a run learns, stops and goes on from its checkpoint."""

import errno
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rag_inspect.errors import CorpusError, ModelError, RagInspectError
from rag_inspect.hub import minilm_folder
from rag_inspect.rerankers.mini.prior import load_tokenizer
from rag_inspect.training.examples import Group, Source
from rag_inspect.training.loop import Recipe, Training

CITIES = ["Oslo", "Lima", "Quito", "Rabat", "Seoul", "Tunis", "Vienna", "Zagreb", "Accra", "Bern"]
WORDS = minilm_folder() / "tokenizer.json"


def small_training(checkpoint, device="cpu", **recipe):
    """A cross-encoder of 2 layers that must learn to tell the city asked for, against a prior that knows nothing."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    texts = [f"The weather in {city} is {kind}." for kind in ("fine", "bad") for city in CITIES]
    groups = [
        Group("What is fine?", {at: 0.0}, {other: 0.0 for other in range(10, 20)}, {10: 0.0})
        for at in range(10)
    ]
    source = Source("qamr", texts, groups)
    recipe = Recipe(**{"learning_rate": 3e-3, "hold_out": "", "groups": 4, "negatives": 3} | recipe)
    model = BertForSequenceClassification(config)
    return Training(model, load_tokenizer(WORDS), {"qamr": source}, recipe, checkpoint, device)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])  # with a number it goes a GPU's way: bf16, large parts
def test_a_run_learns_stops_and_goes_on(tmp_path, capsys, device):
    import torch

    checkpoint = tmp_path / "checkpoint.pt"
    training = small_training(checkpoint, device)
    kinds = set()
    training.model.bert.encoder.layer[0].intermediate.dense.register_forward_hook(
        lambda _module, _given, made: kinds.add(made.dtype)
    )
    with ThreadPoolExecutor(2) as pool:
        rng = np.random.default_rng(0)
        losses = [training.step(rng, 3e-3, pool) for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert kinds == {torch.float32 if device == "cpu" else torch.bfloat16}
    assert {part.dtype for part in training.model.parameters()} == {torch.float32}
    training.save()
    again = small_training(checkpoint, device)
    for name, tensor in training.average_weights().items():  # between the start and the last weights
        assert torch.equal(again.average_weights()[name], tensor)
    assert not torch.equal(training.average_weights()["classifier.weight"], training.model.classifier.weight)
    assert again.steps == 40 and "resumed at step 40" in capsys.readouterr().out
    again.train(0.5)
    assert again.steps > 40 and "minutes left" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_recipe_or_none_at_all_is_refused(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    small_training(checkpoint).save()
    with pytest.raises(ModelError, match=r"negatives is 3, this run has 5.*--out"):
        small_training(checkpoint, negatives=5)
    checkpoint.write_bytes(b"something else")
    with pytest.raises(ModelError, match="not a checkpoint of this program"):
        small_training(checkpoint)


def test_a_full_disk_leaves_the_last_checkpoint_and_is_said(tmp_path, monkeypatch):
    training = small_training(tmp_path / "checkpoint.pt")
    training.save()
    before = training.checkpoint.read_bytes()
    training.steps += 1

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        RagInspectError, match=r"checkpoint\.pt cannot be written \(No space left on device\)"
    ):
        training.save()
    assert training.checkpoint.read_bytes() == before and list(tmp_path.iterdir()) == [training.checkpoint]


def test_dropout_is_for_the_layers_and_not_for_the_weights_of_attention_or_the_average(tmp_path):
    import torch

    training = small_training(tmp_path / "checkpoint.pt", dropout=0.25)
    found = {
        name: part.p for name, part in training.model.named_modules() if isinstance(part, torch.nn.Dropout)
    }
    assert found["bert.encoder.layer.0.output.dropout"] == found["dropout"] == 0.25
    assert found["bert.encoder.layer.0.attention.self.dropout"] == 0
    assert training.model.training and not training.average.module.training


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(CorpusError, match="no source has enough passages"):
        Training(None, None, {}, Recipe(), tmp_path / "checkpoint.pt")

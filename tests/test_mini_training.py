"""Training mini: what the examples are, that a run learns, stops and goes on, and what it refuses."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rag_inspect.embedders import load_embedder
from rag_inspect.errors import CorpusError, ModelError
from rag_inspect.hub import minilm_folder
from rag_inspect.rerankers import mini
from rag_inspect.rerankers.mini.examples import (
    Asked,
    Group,
    Kept,
    Source,
    code_source,
    mine,
    python_functions,
    read_sources,
)
from rag_inspect.rerankers.mini.prior import Words, plain_tokenizer, rarity_of
from rag_inspect.rerankers.mini.train import HEAD, first_state, in_the_sum, main, write
from rag_inspect.rerankers.mini.training import Recipe, Training
from rag_inspect.settings import Settings
from rag_inspect.types import Passage

CITIES = ["Oslo", "Lima", "Quito", "Rabat", "Seoul", "Tunis", "Vienna", "Zagreb", "Accra", "Bern"]
WORDS = minilm_folder() / "tokenizer.json"


def write_rows(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path):
    passages = [
        {
            "_id": f"towns/{i}",
            "title": "",
            "text": f"Bridge {i} of {CITIES[i % 10]} was opened in {1900 + i}.",
        }
        for i in range(40)
    ]
    pairs = [
        {
            "source": "towns",
            "query_id": f"q{i}",
            "query": f"When was bridge {i} in {CITIES[i % 10]} opened?",
            "passage_id": f"towns/{i}",
            "negative_ids": [f"towns/{i + 10}", "towns/no-such"],
        }
        for i in range(6)
    ]
    write_rows(tmp_path / "passages.jsonl.gz", passages)
    write_rows(tmp_path / "pairs.jsonl.gz", pairs)
    return tmp_path


def test_sources_are_read_whole(data):
    sources = read_sources(data)
    passages, queries = sources["towns"]
    assert len(passages) == 40 and len(queries) == 6
    assert queries[3].positives == ["towns/3"] and "towns/13" in queries[3].negatives


def test_the_standard_library_gives_functions_without_their_docstrings():
    import sysconfig
    from itertools import islice
    from pathlib import Path

    functions = list(islice(python_functions(Path(sysconfig.get_paths()["stdlib"])), 20))
    assert len({key for key, _, _ in functions}) == 20
    assert all("def " in code and summary not in code for _, summary, code in functions)


def test_code_that_stands_twice_is_one_passage_and_one_summary_one_query(tmp_path):
    body = "\n".join(f"    value = value + {n}" for n in range(12))
    summary = "Adds a good many numbers to what it is given."
    for name, change in (("a", ""), ("b", ""), ("c", "    value = -value\n")):
        text = f'def add(value):\n    """{summary}"""\n{change}{body}\n    return value\n'
        (tmp_path / f"{name}.py").write_text(text)
    passages, [asked] = code_source(tmp_path, 10)
    assert len(passages) == 2 and asked.text == summary
    assert asked.positives == [passage.passage_id for passage in passages]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("pairs.jsonl.gz", None, "pairs.jsonl.gz cannot be read"),
        (
            "passages.jsonl.gz",
            gzip.compress(b'{"_id": "a/1", "text": "one"}\n')[:-9],
            "passages.jsonl.gz cannot",
        ),
        (
            "passages.jsonl.gz",
            gzip.compress(b'{"_id": "a/1", "text": "one"}\n{"_id": "a/2"}\n'),
            ":2 has no 'text'",
        ),
        ("pairs.jsonl.gz", gzip.compress(b"[1, 2]\n"), "pairs.jsonl.gz:1 has no 'source'"),
        ("pairs.jsonl.gz", b"plain text", "gzipped"),
    ],
    ids=["missing", "truncated", "a key missing", "no object", "not gzipped"],
)
def test_broken_data_is_one_clear_line_and_touches_no_weights(data, tmp_path, capsys, name, content, says):
    (data / name).unlink()
    if content is not None:
        (data / name).write_bytes(content)
    before = mini.sha256(mini.WEIGHTS)
    assert main(["--data", str(data), "--out", str(tmp_path / "run"), "--install"]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert mini.sha256(mini.WEIGHTS) == before


def test_mined_groups_have_their_gold_apart_and_the_prior_of_each(data):
    passages, queries = read_sources(data)["towns"]
    words = Words(WORDS, rarity_of([p.text for p in passages], WORDS))
    embedder = load_embedder("minilm", Settings(home=data, device="cpu"))
    source = mine(
        "towns",
        passages,
        [*queries, Asked("Nothing is known of this.", ["towns/no-such"])],
        embedder=embedder,
        words=words,
        prior_weights=(10.0, 5.0),
        window=64,
        rng=np.random.default_rng(0),
    )
    assert source is not None and len(source.groups) == 6
    for group in source.groups:
        (gold,) = group.positives
        assert gold not in group.mined and len(group.mined) == 30
        (judged,) = group.judged
        [expected] = words.coverages([(group.query, source.texts[judged])])
        assert abs(group.judged[judged] - 5 * expected) <= 10
    _, rows = source.draw(np.random.default_rng(1), 4)
    assert len(rows) == 5 and len({text for text, _ in rows}) == 5


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
    return Training(model, plain_tokenizer(WORDS), {"qamr": source}, recipe, checkpoint, device)


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
    for name, tensor in training.averaged.items():  # between the start and the last weights
        assert torch.equal(again.averaged[name], tensor)
    assert not torch.equal(training.averaged["classifier.weight"], training.model.classifier.weight)
    assert again.steps == 40 and "resumed at step 40" in capsys.readouterr().out
    again.go(0.5)
    assert again.steps > 40 and "minutes left" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_recipe_or_none_at_all_is_refused(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    small_training(checkpoint).save()
    with pytest.raises(ModelError, match=r"negatives 3, asked 5.*--out"):
        small_training(checkpoint, negatives=5)
    checkpoint.write_bytes(b"something else")
    with pytest.raises(ModelError, match="no checkpoint of this program"):
        small_training(checkpoint)


def test_several_starts_are_averaged_and_the_weight_in_the_sum_is_in_the_head(tmp_path):
    import torch
    from safetensors.torch import save_file

    heads = {name: torch.full((1, 2), 2.0) for name in HEAD}
    for folder, value in (("a", 1.0), ("b", 3.0)):
        (tmp_path / folder).mkdir()
        save_file({"body": torch.tensor([value]), **heads}, tmp_path / folder / "model.safetensors")
    state = first_state([f"{tmp_path}/a:0.5", f"{tmp_path}/b"], {})
    assert state["body"].item() == 2.0 and state["classifier.weight"][0, 0].item() == 1.5
    scaled = in_the_sum(state, weight=0.2, centre=12.0)
    assert scaled["classifier.weight"][0, 0].item() == pytest.approx(0.3)
    assert scaled["classifier.bias"][0, 0].item() == pytest.approx(0.3 - 12)
    assert torch.equal(scaled["body"], state["body"])


def test_a_file_it_wrote_is_a_start_as_it_was_before_it_went_into_the_sum(tmp_path):
    import torch

    seeded = torch.Generator().manual_seed(0)
    base = {"layer.weight": torch.randn(256, 64, generator=seeded), "layer.bias": torch.zeros(256)}
    head = {"classifier.weight": torch.randn(1, 64, generator=seeded), "classifier.bias": torch.tensor([1.5])}
    state = {f"bert.{name}": tensor for name, tensor in base.items()} | head
    state["bert.layer.weight"] = state["bert.layer.weight"] + 1.0
    path = tmp_path / "mini.safetensors"
    notes = {"logit_weight": "0.35", "centre": "12.0"}
    write(in_the_sum(state, 0.35, 12.0), base, np.zeros(3), notes, path)
    started = first_state([f"{path}:0.5"], base)
    assert started.keys() == state.keys()
    assert torch.allclose(started["bert.layer.weight"], state["bert.layer.weight"], atol=0.02)
    for name in HEAD:
        assert torch.allclose(started[name], state[name] * 0.5, rtol=2e-3, atol=2e-2)
    write(state, base, np.zeros(3), {}, path)
    with pytest.raises(ModelError, match="nothing to start from"):
        first_state([str(path)], base)


def test_dropout_is_for_the_layers_and_not_for_the_weights_of_attention_or_the_average(tmp_path):
    import torch

    training = small_training(tmp_path / "checkpoint.pt", dropout=0.25)
    found = {
        name: part.p for name, part in training.model.named_modules() if isinstance(part, torch.nn.Dropout)
    }
    assert found["bert.encoder.layer.0.output.dropout"] == found["dropout"] == 0.25
    assert found["bert.encoder.layer.0.attention.self.dropout"] == 0
    assert training.model.training and not training.average.module.training


def test_vectors_are_made_once(tmp_path):
    class Counting:
        calls = 0

        def embed_queries(self, texts):
            self.calls += 1
            return np.array([[len(text)] for text in texts], dtype=np.float32)

        def embed_passages(self, passages):
            return self.embed_queries([passage.full_text for passage in passages])

    inner = Counting()
    for _ in range(2):
        kept = Kept(inner, tmp_path / "vectors")
        assert kept.embed_queries(["one", "three"]).tolist() == [[3], [5]]
        assert kept.embed_passages([Passage("p", "four", "")]).tolist() == [[4]]
    assert inner.calls == 2


def test_nothing_to_start_from_or_to_train_on_is_said(tmp_path):
    with pytest.raises(ModelError, match="nothing to start from"):
        first_state([str(tmp_path)], {})
    with pytest.raises(CorpusError, match="no source has passages enough"):
        Training(None, None, {}, Recipe(), tmp_path / "checkpoint.pt")

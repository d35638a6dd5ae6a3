"""Training mini: what the examples are, what a run starts from and leaves, and what it refuses."""

import gzip
import json

import numpy as np
import pytest

from rag_inspect.embedders import load_embedder
from rag_inspect.errors import ModelError
from rag_inspect.files import write_text
from rag_inspect.hub import minilm_folder
from rag_inspect.rerankers import mini
from rag_inspect.rerankers.mini.prior import Words
from rag_inspect.settings import Settings
from rag_inspect.training.compress import measure_rarity
from rag_inspect.training.examples import (
    Asked,
    StoredEmbedder,
    find_functions,
    make_code_source,
    mine,
    read_sources,
)
from rag_inspect.training.train import HEAD, install, load_start, main, scale_head, write
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

    functions = list(islice(find_functions(Path(sysconfig.get_paths()["stdlib"])), 20))
    assert len({key for key, _, _ in functions}) == 20
    assert all("def " in code and summary not in code for _, summary, code in functions)


def test_code_that_stands_twice_is_one_passage_and_one_summary_one_query(tmp_path):
    body = "\n".join(f"    value = value + {n}" for n in range(12))
    summary = "Adds a good many numbers to what it is given."
    for name, change in (("a", ""), ("b", ""), ("c", "    value = -value\n")):
        text = f'def add(value):\n    """{summary}"""\n{change}{body}\n    return value\n'
        (tmp_path / f"{name}.py").write_text(text)
    passages, [asked] = make_code_source(tmp_path, 10)
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
    words = Words(WORDS, measure_rarity([p.text for p in passages], WORDS))
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
        kept = StoredEmbedder(inner, tmp_path / "vectors")
        assert kept.embed_queries(["one", "three"]).tolist() == [[3], [5]]
        assert kept.embed_passages([Passage("p", "four", "")]).tolist() == [[4]]
    assert inner.calls == 2


def test_a_file_in_the_place_of_the_out_folder_is_said_before_the_work(data, capsys):
    (data / "out").write_text("mine")
    assert main(["--data", str(data), "--out", str(data / "out")]) == 1
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1 and (data / "out").read_text() == "mine"


def test_an_installed_result_stands_with_its_checksum(tmp_path, monkeypatch):
    shipped = write_text(tmp_path / "shipped" / "mini.safetensors", "old")
    monkeypatch.setattr("rag_inspect.training.train.WEIGHTS", shipped)
    result = write_text(tmp_path / "mini.safetensors", "new")
    write_text(mini.checksum_file(result), f"{mini.sha256(result)}  mini.safetensors\n")
    install(result)
    assert shipped.read_text() == "new" and mini.revision(shipped) == mini.sha256(shipped)
    assert sorted(shipped.parent.iterdir()) == [shipped, mini.checksum_file(shipped)]


def test_several_starts_are_averaged_and_the_weight_in_the_sum_is_in_the_head(tmp_path):
    import torch
    from safetensors.torch import save_file

    heads = {name: torch.full((1, 2), 2.0) for name in HEAD}
    for folder, value in (("a", 1.0), ("b", 3.0)):
        (tmp_path / folder).mkdir()
        save_file({"body": torch.tensor([value]), **heads}, tmp_path / folder / "model.safetensors")
    state = load_start([f"{tmp_path}/a:0.5", f"{tmp_path}/b"], {})
    assert state["body"].item() == 2.0 and state["classifier.weight"][0, 0].item() == 1.5
    scaled = scale_head(state, weight=0.2, centre=12.0)
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
    write(scale_head(state, 0.35, 12.0), base, np.zeros(3), notes, path)
    started = load_start([f"{path}:0.5"], base)
    assert started.keys() == state.keys()
    assert torch.allclose(started["bert.layer.weight"], state["bert.layer.weight"], atol=0.02)
    for name in HEAD:
        assert torch.allclose(started[name], state[name] * 0.5, rtol=2e-3, atol=2e-2)
    write(state, base, np.zeros(3), {}, path)
    with pytest.raises(ModelError, match="cannot start from this"):
        load_start([str(path)], base)


def test_nothing_to_start_from_is_said(tmp_path):
    with pytest.raises(ModelError, match="cannot start from this"):
        load_start([str(tmp_path)], {})

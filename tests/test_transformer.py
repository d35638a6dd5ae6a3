"""What every transformer shares: batches within a budget, a device that is there, text a tokenizer takes."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_inspect.embedders import EMBEDDERS, TransformerEmbedder
from rag_inspect.errors import ModelError
from rag_inspect.rerankers import RERANKERS
from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker
from rag_inspect.rerankers.mini import quantize
from rag_inspect.transformer import (
    batch_by_length,
    choose_device,
    clean_text,
    count_cores,
    make_worker_pool,
    weight_bytes,
)
from rag_inspect.types import Passage
from tests.conftest import Models
from tests.tiny_models import write_bge_m3, write_reranker


@given(st.lists(st.integers(1, 2000), max_size=60), st.integers(1, 4096))
def test_batches_hold_each_index_once_keep_to_the_budget_and_begin_with_the_longest(
    lengths: list[int], budget: int
) -> None:
    batches = list(batch_by_length(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_a_batch_is_as_full_as_the_budget_allows() -> None:
    lengths = [5, 900, 3, 120, 120, 7, 512, 1, 64]
    batches = batch_by_length(lengths, 512)
    assert [max(lengths[i] for i in batch) for batch in batches] == [900, 512, 120, 5]


def test_a_device_that_is_not_here_is_refused() -> None:
    assert choose_device("cpu").type == "cpu" and choose_device().type in {"cpu", "cuda", "mps"}
    with pytest.raises(ModelError, match="device 'abacus' is not available"):
        choose_device("abacus")


def test_a_pool_made_after_another_has_as_many_workers() -> None:
    """torch hands a new thread the number that another thread set last: the second pool would have had one."""
    device = choose_device("cpu")
    first = make_worker_pool(device)
    list(first.map(lambda _: None, range(8)))
    with ThreadPoolExecutor(1) as loading:
        second = loading.submit(make_worker_pool, device).result()
    assert (second.count, second.threads_each) == (first.count, first.threads_each)
    assert first.count == min(4, count_cores())


@given(st.text())
def test_text_with_half_a_surrogate_pair_becomes_readable(text: str) -> None:
    assert clean_text(text) == text
    assert clean_text(f"{text}\ud800") == f"{text}?"


def test_a_model_knows_what_its_weights_take(models: Models, tmp_path: Path) -> None:
    assert isinstance(models.minilm, TransformerEmbedder)
    assert models.minilm.memory_bytes == pytest.approx(4 * EMBEDDERS["minilm"].parameters, rel=0.01)
    tiny = CrossEncoderReranker.from_folder(RERANKERS["base"], write_reranker(tmp_path), "cpu")
    count = sum(weights.numel() for weights in tiny._model.parameters())
    assert tiny.memory_bytes == pytest.approx(4 * count, rel=0.01)
    assert weight_bytes(tiny._model.half()) == pytest.approx(2 * count, rel=0.01)
    layers = [module for module in tiny._model.modules() if type(module).__name__ == "Linear"]
    linear = sum(weights.numel() for layer in layers for weights in layer.parameters())
    small = weight_bytes(quantize(tiny._model.float()))
    assert linear + 4 * (count - linear) <= small < 4 * count - 2 * linear


def test_a_model_that_is_closed_is_out_of_memory_and_its_threads_end(tmp_path: Path) -> None:
    passages = [Passage("p", "a river and a mountain")] * 4
    reranker = CrossEncoderReranker.from_folder(RERANKERS["base"], write_reranker(tmp_path / "a"), "cpu")
    embedder = TransformerEmbedder.from_folder(EMBEDDERS["bge-m3"], write_bge_m3(tmp_path / "b"), "cpu")
    reranker.score("river", passages)
    embedder.embed_passages(passages)
    for model in (reranker, embedder):
        weights, threads = weakref.ref(model._model), list(model._workers._threads)
        assert threads and all(thread.is_alive() for thread in threads)
        model.close()
        model.close()
        gc.collect()
        assert weights() is None and not any(thread.is_alive() for thread in threads)
    with pytest.raises(RuntimeError, match="base is closed"):
        reranker.score("river", passages)

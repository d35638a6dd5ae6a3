"""What every transformer shares: batches within a budget, a device that is there, text a tokenizer takes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_inspect.errors import ModelError
from rag_inspect.transformer import choose_device, cores, readable, token_batches, worker_pool


@given(st.lists(st.integers(1, 2000), max_size=60), st.integers(1, 4096))
def test_batches_hold_each_index_once_keep_to_the_budget_and_begin_with_the_longest(
    lengths: list[int], budget: int
) -> None:
    batches = list(token_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_a_batch_is_as_full_as_the_budget_allows() -> None:
    lengths = [5, 900, 3, 120, 120, 7, 512, 1, 64]
    batches = token_batches(lengths, 512)
    assert [max(lengths[i] for i in batch) for batch in batches] == [900, 512, 120, 5]


def test_a_device_that_is_not_here_is_refused() -> None:
    assert choose_device("cpu").type == "cpu" and choose_device().type in {"cpu", "cuda", "mps"}
    with pytest.raises(ModelError, match="no device 'abacus' here"):
        choose_device("abacus")


def test_a_pool_made_after_another_has_as_many_workers() -> None:
    """torch hands a new thread the number that another thread set last: the second pool would have had one."""
    device = choose_device("cpu")
    first = worker_pool(device)
    list(first.map(lambda _: None, range(8)))
    with ThreadPoolExecutor(1) as loading:
        second = loading.submit(worker_pool, device).result()
    assert (second.count, second.threads_each) == (first.count, first.threads_each)
    assert first.count == min(4, cores())


@given(st.text())
def test_text_with_half_a_surrogate_pair_becomes_readable(text: str) -> None:
    assert readable(text) == text
    assert readable(f"{text}\ud800") == f"{text}?"

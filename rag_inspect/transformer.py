"""What every transformer here shares, embedder or reranker: it is loaded, gets a device, and reads in batches.

Imports torch only when called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from rag_inspect.errors import ModelError
from rag_inspect.types import ModelSpec

if TYPE_CHECKING:
    import torch

TOKENS_PER_BATCH = {"cpu": 512, "mps": 8192, "cuda": 65536}


def load_transformer(spec: ModelSpec, folder: Path, auto_class: Any, **options: Any) -> tuple[Any, Any]:
    """(model, tokenizer) from a folder, in fp32, without remote code; ModelError if it is another model."""
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    options |= {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model, found = auto_class.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True, **options
        )
        absent = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
        if absent:
            raise ValueError(f"no weights for {absent[0]} and {len(absent) - 1} more")
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        advice = f"put the files of {spec.model} there anew"
        raise ModelError(f"{spec.key}: {folder} cannot be loaded ({reason}); {advice}") from error
    return model.eval(), tokenizer


def choose_device(name: str = "auto") -> torch.device:
    """The device of this name, else ModelError; for "auto" a CUDA device, else Apple's, else the CPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"there is no device {name!r} here; set RAG_INSPECT_DEVICE to auto or cpu"
        ) from error


class WorkerPool(ThreadPoolExecutor):
    """`count` threads that share the cores: each runs its torch operations on its own part of them.

    A batch a core, instead of every operation on all cores, spares them waiting for one another: on two busy
    cores that is two to three times as fast, on two idle ones a little faster.
    """

    def __init__(self, count: int, threads_each: int) -> None:
        import torch

        super().__init__(count, "forward", initializer=torch.set_num_threads, initargs=(threads_each,))
        self.count, self.threads_each = count, threads_each


_CORES_LOCK = Lock()


def cores() -> int:
    """How many threads torch takes when left alone.

    Asked once, before any worker has a number of its own: what one thread sets, threads begun later start with.
    """
    with _CORES_LOCK:
        return _asked_once()


@cache
def _asked_once() -> int:
    import torch

    return int(torch.get_num_threads())


def worker_pool(device: torch.device) -> WorkerPool:
    """Up to four workers on a CPU; one for any other device, so that no two forward passes share it."""
    count = min(4, cores()) if device.type == "cpu" else 1
    return WorkerPool(count, cores() // count)


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches, longest first, each of at most `budget` tokens, padding counted (or one alone)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def weight_bytes(model: Any) -> int:
    """The memory that a loaded model's weights take, in whatever precision they are."""
    import torch

    parts: list[Any] = list(model.state_dict().values())
    parts += [
        each for part in parts if isinstance(part, tuple) for each in part
    ]  # an int8 layer's weight and bias
    return sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor))


def readable(text: str) -> str:
    """The text with half surrogate pairs, which no tokenizer takes, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")

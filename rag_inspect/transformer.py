"""What every transformer here shares, embedder or reranker: it is loaded, gets a device, and reads in batches.

Imports torch only when called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
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
    weights, tokenizer = open_transformer(spec, folder, auto_class, **options)
    return weights.load(), tokenizer


@dataclass(frozen=True, slots=True)
class Weights:
    """A model whose weights need not be in memory yet: its configuration, how to load it in fp32, and their count."""

    config: Any
    load: Callable[[], Any]
    count: int = 0

    @classmethod
    def of(cls, model: Any) -> Weights:
        """Those of a model that is loaded already."""
        return cls(model.config, lambda: model, model.num_parameters())


def open_transformer(spec: ModelSpec, folder: Path, auto_class: Any, **options: Any) -> tuple[Weights, Any]:
    """(weights, tokenizer) from a folder, without remote code. The weights file is not read before `load`.

    Raises ModelError, now or in `load`, if it is another model.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    options |= {"local_files_only": True, "trust_remote_code": False}

    def load() -> Any:
        with _explain(spec, folder):
            model, found = auto_class.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True, **options
            )
            absent = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
            if absent:
                raise ValueError(f"no weights for {absent[0]} and {len(absent) - 1} more")
        return model.eval()

    with _explain(spec, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        config = AutoConfig.from_pretrained(folder, **options)
        if type(config) not in auto_class._model_mapping:
            auto_class.from_config(config)  # raises what loading would raise
    return Weights(config, load), tokenizer


@contextmanager
def _explain(spec: ModelSpec, folder: Path) -> Iterator[None]:
    """Whatever fails in here is a ModelError of one line that names the folder."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        advice = f"replace the files of {spec.model}"
        raise ModelError(f"{spec.key}: {folder} cannot be loaded ({reason}); {advice}") from error


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
            f"device {name!r} is not available; set RAG_INSPECT_DEVICE to auto or cpu"
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
        return _read_core_count()


@cache
def _read_core_count() -> int:
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
    # An int8 layer has its weight and bias in a tuple.
    parts += [each for part in parts if isinstance(part, tuple) for each in part]
    return sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor))


def clean_text(text: str) -> str:
    """The text with half surrogate pairs, which no tokenizer takes, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")

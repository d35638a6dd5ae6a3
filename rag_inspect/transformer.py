"""What embedders and rerankers share: loading a transformer, choosing its device, and running it in batches.

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
    from tokenizers import Encoding

TOKENS_PER_BATCH = {"cpu": 512, "mps": 8192, "cuda": 65536}


def load_transformer(spec: ModelSpec, folder: Path, auto_class: Any, **options: Any) -> tuple[Any, Any]:
    """Load (model, tokenizer) from a folder, in fp32, without remote code. Raises ModelError for the wrong model."""
    weights, tokenizer = open_transformer(spec, folder, auto_class, **options)
    return weights.load(), tokenizer


@dataclass(frozen=True, slots=True)
class Weights:
    """A model that may not be in memory yet: its configuration, a function that loads it in fp32, its weight count."""

    config: Any
    load: Callable[[], Any]
    count: int = 0

    @classmethod
    def of(cls, model: Any) -> Weights:
        """Return the weights of a model that is already loaded."""
        return cls(model.config, lambda: model, model.num_parameters())


def open_transformer(spec: ModelSpec, folder: Path, auto_class: Any, **options: Any) -> tuple[Weights, Any]:
    """Open (weights, tokenizer) from a folder, without remote code. Only `Weights.load` reads the weights file.

    Raises ModelError, here or in `load`, for the wrong model.
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
    """Turn any failure in this block into a one-line ModelError that names the folder."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        advice = f"replace the files of {spec.model}"
        raise ModelError(f"{spec.key}: {folder} cannot be loaded ({reason}); {advice}") from error


def choose_device(name: str = "auto") -> torch.device:
    """Return the device with this name; "auto" picks CUDA, else Apple's MPS, else the CPU. Raises ModelError."""
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
    """`count` threads that divide the cores: each runs its torch operations on `threads_each` of them.

    One batch per worker, instead of every operation on all cores, saves the cores from waiting for each other. On
    two busy cores this is two to three times as fast, on two idle cores a little faster.
    """

    def __init__(self, count: int, threads_each: int) -> None:
        import torch

        super().__init__(count, "forward", initializer=torch.set_num_threads, initargs=(threads_each,))
        self.count, self.threads_each = count, threads_each


_CORES_LOCK = Lock()


def count_cores() -> int:
    """Return the number of threads torch uses by default.

    The first call must come before any worker sets its own number: later threads would inherit that.
    """
    with _CORES_LOCK:
        return _read_core_count()


@cache
def _read_core_count() -> int:
    import torch

    return int(torch.get_num_threads())


def make_worker_pool(device: torch.device) -> WorkerPool:
    """Start up to four workers on a CPU, and one on any other device, so that forward passes there never overlap."""
    count = min(4, count_cores()) if device.type == "cpu" else 1
    return WorkerPool(count, count_cores() // count)


def batch_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield indices in batches, longest first; a batch has at most `budget` tokens with padding, or a single index."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def weight_bytes(model: Any) -> int:
    """Count the bytes that a loaded model's weights take, in the precision they have."""
    import torch

    parts: list[Any] = list(model.state_dict().values())
    # An int8 layer has its weight and bias in a tuple.
    parts += [each for part in parts if isinstance(part, tuple) for each in part]
    return sum(part.numel() * part.element_size() for part in parts if isinstance(part, torch.Tensor))


def count_unknown(tokens: Sequence[str], unknown: str | None) -> int:
    """Count the tokens without a meaning: the tokenizer's `unknown` one, and the bare mark of a word's start."""
    return sum(token in {unknown, "▁", "Ġ"} for token in tokens)


def find_end(tokens: Encoding, read: int, text: str) -> int:
    """Return where the first `read` tokens of a text end, in characters."""
    if read >= len(tokens):
        return len(text)
    return int(tokens.offsets[read - 1][1]) if read > 0 else 0


def clean_text(text: str) -> str:
    """Replace half surrogate pairs, which every tokenizer rejects, with question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")

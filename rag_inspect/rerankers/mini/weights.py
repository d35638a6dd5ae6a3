"""Read mini from a small file: its difference from all-MiniLM-L6-v2, as a truncated SVD in int8.

Of each linear layer's difference the file has the largest singular components; biases, layer norms and the head
are complete, in fp16. The embedding matrices are MiniLM's own. rag_inspect/training/compress.py writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_inspect.transformer import count_cores

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "rag-inspect mini 1"
BESIDE = "beside."

State = Mapping[str, "Tensor"]


def expand(path: Path, base: State) -> dict[str, Tensor]:
    """Return the full fp32 state of a BertForSequenceClassification: `base` plus the stored difference."""
    from safetensors.torch import load_file

    stored = load_file(path)
    state = {f"bert.{name}": tensor.float() for name, tensor in base.items() if "position_ids" not in name}
    with _one_thread():
        for name, tensor in stored.items():
            if name.endswith(".left"):
                weight = name.removesuffix(".left")
                left = tensor.float() * stored[f"{weight}.scale"]
                state[weight] = state[weight].addmm(left, stored[f"{weight}.right"].float())
            elif not name.endswith((".right", ".scale")) and not name.startswith(BESIDE):
                state[name] = tensor.float()
    return state


def make_model(state: State, folder: Path) -> tuple[Any, Any]:
    """Make (model, tokenizer) from the full state; MiniLM's `folder` gives the architecture and the vocabulary."""
    from transformers import BertForSequenceClassification

    config, tokenizer = read_shape(folder)
    model = BertForSequenceClassification.from_pretrained(None, config=config, state_dict=dict(state))
    return model.eval(), tokenizer


def read_shape(folder: Path) -> tuple[Any, Any]:
    """Read (config, tokenizer) from MiniLM's `folder`: its architecture with one label, and its vocabulary."""
    from transformers import AutoTokenizer, BertConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = BertConfig.from_pretrained(folder)
    config.num_labels, config.hidden_dropout_prob, config.attention_probs_dropout_prob = 1, 0.0, 0.0
    return config, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def read_notes(path: Path) -> dict[str, str]:
    """Read the file's header: format, the prior's weights, recipe."""
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return dict(opened.metadata() or {})


def read_beside(path: Path, name: str) -> Tensor:
    """Read a tensor that the file holds in addition to the model."""
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return opened.get_tensor(f"{BESIDE}{name}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: for many small products a second gains nothing, and on a busy machine 0.07 s become 1.4 s."""
    import torch

    threads = count_cores()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

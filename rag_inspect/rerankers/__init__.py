"""The rerankers: RERANKERS lists them, BACKENDS loads them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable

from rag_inspect.download import model_folder
from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import ModelError
from rag_inspect.hub import HubProbe, local_folder, locate
from rag_inspect.rerankers.mini import CARD as MINI_CARD
from rag_inspect.rerankers.mini import MAX_TOKENS as MINI_MAX_TOKENS
from rag_inspect.rerankers.mini import revision as mini_revision
from rag_inspect.settings import Settings
from rag_inspect.types import Availability, Embedder, ModelSpec, Progress, Reranker

_BGE_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)

RERANKERS: dict[str, ModelSpec] = {
    spec.key: spec
    for spec in (
        ModelSpec(
            key="mini",
            kind="reranker",
            model="rag-inspect/mini",
            revision=mini_revision(),
            parameters=22_713_601,
            max_tokens=MINI_MAX_TOKENS,
            languages=("en",),
            licence="Apache-2.0",
            backend="mini",
            source="builtin",
            score_name="mini score",
            summary="cosine + word overlap + cross-encoder",
            card=MINI_CARD,
        ),
        ModelSpec(
            key="base",
            kind="reranker",
            model="BAAI/bge-reranker-base",
            revision="2cfc18c9415c912f9d8155881c133215df768a70",
            parameters=278_044_417,
            max_tokens=512,
            languages=("en", "zh"),
            licence="MIT",
            backend="cross-encoder",
            source="hub",
            score_name="logit",
            sigmoid=True,
            files=_BGE_FILES,
            download_bytes=1_129_000_000,
        ),
        ModelSpec(
            key="large",
            kind="reranker",
            model="BAAI/bge-reranker-large",
            revision="55611d7bca2a7133960a6d3b71e083071bbfc312",
            parameters=559_891_457,
            max_tokens=512,
            languages=("en", "zh"),
            licence="MIT",
            backend="cross-encoder",
            source="hub",
            score_name="logit",
            sigmoid=True,
            files=_BGE_FILES,
            download_bytes=2_257_000_000,
        ),
        ModelSpec(
            key="v2-m3",
            kind="reranker",
            model="BAAI/bge-reranker-v2-m3",
            revision="953dc6f6f85a1b2dbfca4c34a2796e7dde08d41e",
            parameters=567_755_777,
            max_tokens=1024,  # of 8192 positions; its authors fine-tuned with 1024 and recommend that
            languages=("multilingual",),
            licence="Apache-2.0",
            backend="cross-encoder",
            source="hub",
            score_name="logit",
            sigmoid=True,
            files=_BGE_FILES,
            download_bytes=2_288_000_000,
        ),
    )
}

Loader = Callable[[ModelSpec, Settings, Embedder | None, Progress | None], Reranker]


def _load_mini(
    spec: ModelSpec, settings: Settings, embedder: Embedder | None, on_progress: Progress | None
) -> Reranker:
    from rag_inspect.rerankers import mini

    return mini.load(spec, settings, embedder)


def _load_cross_encoder(
    spec: ModelSpec, settings: Settings, embedder: Embedder | None, on_progress: Progress | None
) -> Reranker:
    from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker.from_folder(spec, model_folder(spec, settings, on_progress), settings.device)


BACKENDS: dict[str, Loader] = {"mini": _load_mini, "cross-encoder": _load_cross_encoder}


def load_reranker(
    key: str, settings: Settings, embedder: Embedder | None = None, on_progress: Progress | None = None
) -> Reranker:
    """Load the reranker with this key, downloading it first if it is not on disk. Raises ModelError.

    `mini` needs minilm's vectors: pass minilm as `embedder` if it is loaded, or mini loads its own.
    """
    spec = RERANKERS.get(key)
    if spec is None:
        raise ModelError(f"unknown reranker {key!r}; choose one of {', '.join(RERANKERS)}")
    return BACKENDS[spec.backend](spec, settings, embedder, on_progress)


def default_reranker(settings: Settings) -> str:
    """Return `base` if its files are on disk, else `mini`. Asks no hub."""
    return "base" if local_folder(RERANKERS["base"], settings) else "mini"


def list_models(settings: Settings, probe: HubProbe | None = None) -> list[tuple[ModelSpec, Availability]]:
    """List every embedder and reranker with its availability. Takes up to three seconds if the hub does not answer.

    Asks the hub once for all of them, or not at all if the `probe` has a recent answer.
    """
    probe = probe or HubProbe()
    return [(spec, locate(spec, settings, probe)) for spec in (*EMBEDDERS.values(), *RERANKERS.values())]

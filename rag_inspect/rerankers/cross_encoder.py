"""Local cross-encoders with one label: BAAI's bge rerankers (XLM-RoBERTa) and the built-in mini (BERT).

Scores are the raw logits of sentence-transformers' `CrossEncoder.predict` with an identity activation. They come
faster: each query and passage is tokenised once, pairs of similar length share a batch that fits a CPU's cache, and
each worker runs its own batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from rag_inspect.errors import ModelError
from rag_inspect.hub import count_weights, read_revision
from rag_inspect.transformer import (
    TOKENS_PER_BATCH,
    Weights,
    batch_by_length,
    choose_device,
    clean_text,
    count_unknown,
    find_end,
    make_worker_pool,
    open_transformer,
    weight_bytes,
)
from rag_inspect.types import ModelSpec, Pair, Passage, Progress, Reading

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding

PAIRS_AT_ONCE = 512  # tokenised and sorted together
STOPPABLE_SECONDS = 0.5


class Prior(Protocol):
    """Computes a number for each pair, in input order, that is added to its logit."""

    @property
    def fingerprint(self) -> str:
        """Priors with the same fingerprint give the same numbers."""
        ...

    def __call__(self, pairs: Sequence[Pair]) -> Sequence[float]: ...

    def components(self, pairs: Sequence[Pair]) -> Mapping[str, Sequence[float]]:
        """Return the terms whose sum it is, by name."""
        ...


class CrossEncoderReranker:
    """A `Reranker` from a transformers sequence classifier with one label, and its tokenizer.

    If there is a `prior`, its number for each pair is added to the pair's logit. `warm_up` or the first score loads
    the weights; `fingerprint` and `readings` do not need them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Weights,
        tokenizer: Any,
        device: torch.device | None = None,
        *,
        prior: Prior | None = None,
        revision: str | None = None,
        precision: str | None = None,
    ) -> None:
        """`precision` overrides the device's default precision label."""
        self.spec = spec
        self.revision = revision or spec.revision
        self.prior = prior
        self.device = device or choose_device()
        self.precision = precision or ("fp16" if self.device.type == "cuda" else "fp32")
        positions = weights.config.max_position_embeddings
        self.window = min(spec.max_tokens, positions, tokenizer.model_max_length)
        self.memory_bytes = weights.count * (2 if self.precision == "fp16" else 4)
        """The size of the weights; before they are loaded, an upper bound."""
        self._load: Callable[[], Any] | None = weights.load
        self._loaded: Any = None
        self._model_lock, self._warming, self._warm = Lock(), Lock(), False
        self._tokenizer = tokenizer
        self._tokenizer_lock = Lock()
        self._workers = make_worker_pool(self.device)

    @classmethod
    def from_folder(cls, spec: ModelSpec, folder: Path, device: str = "auto") -> CrossEncoderReranker:
        """Open a folder in the hub's layout. Raises ModelError for the wrong model, here or when the weights are loaded."""
        from transformers import AutoModelForSequenceClassification

        weights, tokenizer = open_transformer(spec, folder, AutoModelForSequenceClassification, num_labels=1)
        revision = read_revision(spec, folder)

        def load() -> Any:
            model = weights.load()
            # Otherwise the new weights' scores would be cached under the old revision.
            if read_revision(spec, folder) != revision:
                raise ModelError(f"{spec.key}: {folder} has changed since it was opened; try again")
            return model

        opened = replace(weights, load=load, count=count_weights(folder))
        return cls(spec, opened, tokenizer, choose_device(device), revision=revision)

    @property
    def fingerprint(self) -> str:
        own = f"{self.spec.model}|{self.revision}|{self.precision}|{self.window}"
        return f"{own}|{self.prior.fingerprint}" if self.prior else own

    def warm_up(self, on_progress: Progress | None = None) -> None:
        """Load the weights and score a first pair, once; other callers wait until that is done. Raises ModelError."""
        report = on_progress or (lambda done, total, what: None)
        with self._warming:
            if self._warm:
                return
            report(0, 0, f"loading {self.spec.key}")
            _ = self._model
            report(0, 0, f"warming {self.spec.key} up")
            self.score("warm up", [Passage("warm-up", "The first inference of a model is its slowest.")])
            self._warm = True

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """Return raw logits, one per passage, in input order. Raises ModelError if the weights cannot be loaded."""
        logits: dict[int, float] = {}
        for batch in self.score_pairs([(query, passage) for passage in passages]):
            logits |= batch
        return [logits[index] for index in range(len(passages))]

    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[dict[int, float]]:
        """Yield index -> raw logit, batch by batch, in no particular order. Close the iterator to stop.

        If no batch ends within STOPPABLE_SECONDS it yields an empty one, so that the caller gets a chance to stop.
        Raises ModelError if the weights cannot be loaded.
        """
        if pairs:
            _ = self._model
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[start : start + PAIRS_AT_ONCE]
            for batch in self._score_some(some):
                yield {start + index: logit for index, logit in batch.items()}

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading]:
        """Return how many tokens of each passage, and of the query beside it, the model reads, and how many there are."""
        pairs = [(query, passage) for passage in passages]
        asked, *alone = self._encode_alone([query, *(p.full_text for p in passages)])
        unknown = count_unknown(asked.tokens, self._tokenizer.unk_token)
        around, encodings = self._tokenizer.num_special_tokens_to_add(pair=True), self._encode(pairs)
        # Where a side was cut, `sequence_ids` forget the query's tokens: they are what is left.
        read = [encoding.sequence_ids.count(1) for encoding in encodings]
        rest = [len(each) - around - seen for each, seen in zip(encodings, read, strict=True)]
        return [
            Reading(
                seen,
                len(tokens),
                query=Reading(left, len(asked), unknown),
                characters=find_end(tokens, seen, passage.full_text),
            )
            for seen, tokens, left, passage in zip(read, alone, rest, passages, strict=True)
        ]

    def components(self, pairs: Sequence[Pair]) -> Mapping[str, Sequence[float]]:
        """Return what the prior's parts add to each pair's logit; empty without a prior."""
        return self.prior.components(pairs) if self.prior else {}

    def close(self) -> None:
        """Wait for the running batches, then free the model and its threads. It cannot score afterwards."""
        self._workers.shutdown()
        with self._model_lock:
            self._load = self._loaded = None

    @property
    def _model(self) -> Any:
        """The model on its device; the first access loads it."""
        with self._model_lock:
            if self._load is None:
                raise RuntimeError(f"{self.spec.key} is closed and cannot score; load it again")
            if self._loaded is None:
                model = self._load().to(self.device)
                self._loaded = (model.half() if self.precision == "fp16" else model).eval()
                self.memory_bytes = weight_bytes(self._loaded)
            return self._loaded

    def _score_some(self, pairs: Sequence[Pair]) -> Iterator[dict[int, float]]:
        """Keep two batches per worker in progress: callers take turns, and little work remains after a stop."""
        encodings = self._encode(pairs)
        batches = batch_by_length([len(e) for e in encodings], TOKENS_PER_BATCH[self.device.type])
        under_way: set[Future[dict[int, float]]] = set()
        try:
            while True:
                while len(under_way) < 2 * self._workers.count and (batch := next(batches, None)):
                    under_way.add(self._workers.submit(self._score_batch, batch, encodings, pairs))
                if not under_way:
                    return
                done, under_way = wait(under_way, STOPPABLE_SECONDS, return_when=FIRST_COMPLETED)
                yield {index: logit for future in done for index, logit in future.result().items()}
        finally:
            for future in under_way:
                future.cancel()

    def _score_batch(
        self, batch: Sequence[int], encodings: Sequence[Encoding], pairs: Sequence[Pair]
    ) -> dict[int, float]:
        logits = self._logits([encodings[index] for index in batch])
        priors = self.prior([pairs[index] for index in batch]) if self.prior else [0.0] * len(batch)
        return {i: logit + prior for i, logit, prior in zip(batch, logits, priors, strict=True)}

    def _logits(self, encodings: Sequence[Encoding]) -> list[float]:
        import torch

        rows = {
            "input_ids": [e.ids for e in encodings],
            "attention_mask": [e.attention_mask for e in encodings],
        }
        if "token_type_ids" in self._tokenizer.model_input_names:
            rows["token_type_ids"] = [e.type_ids for e in encodings]
        inputs = self._tokenizer.pad(rows, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            logits: list[float] = self._model(**inputs).logits.squeeze(-1).float().tolist()
        return logits

    def _encode(self, pairs: Sequence[Pair]) -> list[Encoding]:
        """Join each pair with the tokenizer's own template, and cut it to the window, the longer text first."""
        texts = list(dict.fromkeys(text for query, passage in pairs for text in (query, passage.full_text)))
        alone = dict(zip(texts, self._encode_alone(texts), strict=True))
        backend = self._tokenizer.backend_tokenizer
        with self._tokenizer_lock:  # truncation is a setting of the tokenizer, not of a call
            backend.enable_truncation(self.window, strategy="longest_first")
            return [backend.post_process(alone[query], alone[passage.full_text]) for query, passage in pairs]

    def _encode_alone(self, texts: Sequence[str]) -> list[Encoding]:
        backend = self._tokenizer.backend_tokenizer
        with self._tokenizer_lock:
            backend.no_truncation()
            backend.no_padding()
            return list(backend.encode_batch([clean_text(text) for text in texts], add_special_tokens=False))

"""Local cross-encoders with one label: BAAI's bge rerankers (XLM-RoBERTa) and the built-in mini (BERT).

Scores are the raw logits that sentence-transformers' `CrossEncoder.predict` gives with an identity
activation, but they come sooner: query and passages are tokenised once each, and pairs of like length go
through the model in batches small enough for their activations to stay in a CPU's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from rag_inspect.embedders import choose_device, load_transformer, readable, token_batches
from rag_inspect.types import ModelSpec, Passage, Reading

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding

Pair = tuple[str, Passage]
Prior = Callable[[Sequence[Pair]], Sequence[float]]

TOKENS_PER_BATCH = {"cpu": 640, "mps": 8192, "cuda": 65536}
PAIRS_AT_ONCE = 512  # tokenised and sorted together


class CrossEncoderReranker:
    """A transformers sequence classifier with one label, and its tokenizer, as a `Reranker`.

    `prior`, where there is one, gives a number for each pair that is added to its logit.
    """

    def __init__(
        self,
        spec: ModelSpec,
        model: Any,
        tokenizer: Any,
        device: torch.device | None = None,
        *,
        prior: Prior | None = None,
    ) -> None:
        self.spec = spec
        self.prior = prior
        self.device = device or choose_device()
        self.precision = "fp16" if self.device.type == "cuda" else "fp32"
        self.window = min(spec.max_tokens, model.config.max_position_embeddings, tokenizer.model_max_length)
        self._model = model.to(self.device).half() if self.precision == "fp16" else model.to(self.device)
        self._model.eval()
        self._tokenizer = tokenizer
        self._lock = Lock()

    @classmethod
    def from_folder(cls, spec: ModelSpec, folder: Path, device: str = "auto") -> CrossEncoderReranker:
        """Load a folder as the hub has it; ModelError if it is not the model it should be."""
        from transformers import AutoModelForSequenceClassification

        model, tokenizer = load_transformer(spec, folder, AutoModelForSequenceClassification, num_labels=1)
        return cls(spec, model, tokenizer, choose_device(device))

    @property
    def fingerprint(self) -> str:
        return f"{self.spec.model}|{self.spec.revision}|{self.precision}|{self.window}"

    def score(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """Raw logits, one a passage, in input order."""
        logits: dict[int, float] = {}
        for batch in self.score_pairs([(query, passage) for passage in passages]):
            logits |= batch
        return [logits[index] for index in range(len(passages))]

    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[dict[int, float]]:
        """index -> raw logit, a batch at a time; the shortest pairs first, so that scores come soon."""
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[start : start + PAIRS_AT_ONCE]
            encodings = self._encode(some)
            lengths = [len(encoding) for encoding in encodings]
            for batch in token_batches(lengths, TOKENS_PER_BATCH[self.device.type]):
                logits = self._logits([encodings[i] for i in batch])
                if self.prior is not None:
                    priors = self.prior([some[i] for i in batch])
                    logits = [logit + prior for logit, prior in zip(logits, priors, strict=True)]
                yield {start + i: logit for i, logit in zip(batch, logits, strict=True)}

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading]:
        """How many of each passage's tokens are read beside this query, and how many it has."""
        totals = [len(encoding) for encoding in self._encode_alone([p.full_text for p in passages])]
        encodings = self._encode([(query, passage) for passage in passages])
        return [
            Reading(read=encoding.sequence_ids.count(1), total=total)
            for encoding, total in zip(encodings, totals, strict=True)
        ]

    def _encode(self, pairs: Sequence[Pair]) -> list[Encoding]:
        """Pairs as the tokenizer's own template joins them, cut at the window, the longer side first."""
        texts = list(dict.fromkeys(text for query, passage in pairs for text in (query, passage.full_text)))
        alone = dict(zip(texts, self._encode_alone(texts), strict=True))
        backend = self._tokenizer.backend_tokenizer
        with self._lock:  # truncation is a setting of the tokenizer, not of a call
            backend.enable_truncation(self.window, strategy="longest_first")
            joined = [backend.post_process(alone[query], alone[p.full_text]) for query, p in pairs]
            backend.no_truncation()
        return joined

    def _encode_alone(self, texts: Sequence[str]) -> list[Encoding]:
        backend = self._tokenizer.backend_tokenizer
        with self._lock:
            backend.no_truncation()
            backend.no_padding()
            return list(backend.encode_batch([readable(text) for text in texts], add_special_tokens=False))

    def _logits(self, encodings: Sequence[Encoding]) -> list[float]:
        """One forward pass; only one at a time, whoever asks."""
        import torch

        rows = {
            "input_ids": [e.ids for e in encodings],
            "attention_mask": [e.attention_mask for e in encodings],
        }
        if "token_type_ids" in self._tokenizer.model_input_names:
            rows["token_type_ids"] = [e.type_ids for e in encodings]
        inputs = self._tokenizer.pad(rows, return_tensors="pt").to(self.device)
        with self._lock, torch.inference_mode():
            logits: list[float] = self._model(**inputs).logits.squeeze(-1).float().tolist()
        return logits

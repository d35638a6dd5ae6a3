"""Compare the scoring speed of rag-inspect with the defaults of sentence-transformers, in alternating turns.

    python -m benchmarks.rerank [--pairs 20] [--repeats 5] [--model base mini]

`base` has the shape of BAAI/bge-reranker-base (XLM-RoBERTa, 278M) with random weights, because speed does not depend
on them; `mini` is the built-in model without its prior. The useful rate counts the tokens of the pairs, not the padding.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification
from transformers.utils import logging

from rag_inspect.hub import minilm_folder
from rag_inspect.rerankers import RERANKERS
from rag_inspect.rerankers import mini as built_in
from rag_inspect.rerankers.cross_encoder import CrossEncoderReranker
from rag_inspect.settings import BUILT_IN_CORPORA
from rag_inspect.transformer import Weights
from rag_inspect.types import Passage

QUERY = "which vector database keeps its index on disk and filters by metadata?"
TOKENS = range(90, 231)
GEMM = 2048


def main() -> None:
    """Read the options and compare each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, help="passages to score for one query (default 20)")
    parser.add_argument(
        "--repeats", type=int, default=5, help="turns of each, of which the median is printed (default 5)"
    )
    parser.add_argument("--model", nargs="+", choices=("base", "mini"), default=["base", "mini"])
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    print(f"{arguments.pairs} pairs, {torch.get_num_threads()} threads, median of {arguments.repeats}")
    for name in arguments.model:
        with tempfile.TemporaryDirectory() as folder:
            compare(name, Path(folder), arguments.pairs, arguments.repeats)


def compare(name: str, folder: Path, pairs: int, repeats: int) -> None:
    """Score the same pairs with both in alternating turns; print times, ratio and rates."""
    model, tokenizer = make_base() if name == "base" else built_in.build()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    peer = CrossEncoder(str(folder), device="cpu", max_length=512, activation_fn=torch.nn.Identity())
    ours = CrossEncoderReranker(RERANKERS[name], Weights.of(peer.model), peer.tokenizer, torch.device("cpu"))
    passages = [Passage(str(index), text) for index, text in enumerate(make_texts(tokenizer, pairs))]
    both = [(QUERY, passage.text) for passage in passages]
    lengths = [len(ids) for ids in tokenizer([QUERY] * pairs, [p.text for p in passages]).input_ids]
    work = sum(count_useful_flop(peer.model.config, length) for length in lengths)
    left, right = torch.rand(GEMM, GEMM), torch.rand(GEMM, GEMM)

    theirs, mine = peer.predict(both), ours.score(QUERY, passages)  # warms both up, too
    turns = [
        (
            seconds(lambda: peer.predict(both)),
            seconds(lambda: ours.score(QUERY, passages)),
            seconds(lambda: [torch.mm(left, right) for _ in range(4)]) / 4,
        )
        for _ in range(repeats)
    ]
    predict, score, gemm = (median(column) for column in zip(*turns, strict=True))
    rate, machine = work / score / 1e9, 2 * GEMM**3 / gemm / 1e9
    print(f"\n{name}: {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M, {sum(lengths)} tokens")
    print(f"  CrossEncoder.predict  {predict:7.3f} s")
    print(f"  rag-inspect           {score:7.3f} s   {median(a / b for a, b, _ in turns):.2f} times as fast")
    print(f"  useful rate           {rate:7.1f} GFLOP/s")
    print(f"  sgemm of this machine {machine:7.1f} GFLOP/s, the useful rate is {rate / machine:.0%}")
    best_first = sorted(range(pairs), key=lambda i: -mine[i])
    swapped = sum(theirs[after] - theirs[before] > 1e-5 for before, after in pairwise(best_first))
    largest = max(abs(a - b) for a, b in zip(theirs, mine, strict=True))
    print(f"  neighbours in a different order {swapped}, largest difference between scores {largest:.1e}")


def make_base() -> tuple[Any, Any]:
    """Make a random model with the shape of bge-reranker-base; return it with MiniLM's tokenizer, whose ids fit."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1}
    config = XLMRobertaConfig(**shape | {"layer_norm_eps": 1e-5, "pad_token_id": 0, "num_labels": 1})
    tokenizer = AutoTokenizer.from_pretrained(
        minilm_folder(), model_input_names=["input_ids", "attention_mask"]
    )
    return XLMRobertaForSequenceClassification(config).eval(), tokenizer


def make_texts(tokenizer: Any, count: int) -> list[str]:
    """Make passages of 90 to 230 tokens from the built-in corpus; short ones are joined."""
    path = BUILT_IN_CORPORA / "resources" / "corpus.jsonl"
    chance = random.Random(0)
    if path.is_file():
        pool = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    else:
        words = [
            "a",
            "reranker",
            "reads",
            "query",
            "and",
            "passage",
            "jointly",
            "while",
            "an",
            "index",
            "stores",
            "one",
            "vector",
            "of",
            "each",
        ]
        pool = [" ".join(chance.choices(words, k=60)) for _ in range(50)]
    found: list[str] = []
    while len(found) < count:
        text, wanted = chance.choice(pool), chance.choice(TOKENS)
        while len(tokenizer.tokenize(text)) < wanted:
            text += " " + chance.choice(pool)
        ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=wanted).input_ids
        found.append(tokenizer.decode(ids))
    return found


def count_useful_flop(config: Any, tokens: int) -> float:
    """Count the floating-point operations of a forward pass over one pair, without padding; a multiply-add is two."""
    hidden, inner = config.hidden_size, config.intermediate_size
    layer = 2 * tokens * (4 * hidden**2 + 2 * hidden * inner) + 4 * tokens**2 * hidden
    return float(config.num_hidden_layers * layer + 2 * hidden**2)


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of the work in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""Train mini on a CPU or one GPU; it stops and resumes as you like:

    python -m rag_inspect.rerankers.mini.train --data ../shared/data/train --minutes 60 --out ../mini-run

The folder --out gets `checkpoint.pt` every few minutes; the same command goes on from it. At the end the weights
are compressed to `mini.safetensors` there, and only --install puts them in the place of the shipped ones. With
--minutes 0 nothing is trained: the start is compressed as it is.

Each step draws groups of one positive and some hard negatives (examples.py), adds the prior to the
cross-encoder's logits and takes the softmax cross-entropy over each group. So the cross-encoder learns what the
prior misses. The embeddings are frozen, as the compressed file keeps none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_inspect.errors import CorpusError, ModelError, RagInspectError
from rag_inspect.rerankers.mini import WEIGHTS, checksum_file, sha256
from rag_inspect.rerankers.mini.examples import SHARES, Source, mine, read_sources
from rag_inspect.rerankers.mini.prior import Words, plain_tokenizer, rarity_of
from rag_inspect.rerankers.mini.weights import FROZEN, as_model, compress

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_PART = {"cpu": 512, "cuda": 65536}
CHECKPOINT_EVERY = 240  # seconds
DEV_QUERIES, DEV_CANDIDATES = 25, 20


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint must agree on to be gone on with."""

    cosine_weight: float = 16.0
    coverage_weight: float = 7.0
    head_scale: float = 1.0
    learning_rate: float = 1e-4
    groups: int = 5
    negatives: int = 4
    window: int = 160
    hold_out: str = "tatqa,va_faq"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when trained and compressed; 1 with one line on stderr when not, and no weights touched."""
    options = parser().parse_args(arguments)
    try:
        train(options)
    except RagInspectError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Every option, with its default."""
    parser = argparse.ArgumentParser(
        prog="python -m rag_inspect.rerankers.mini.train",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with passages.jsonl.gz, pairs.jsonl.gz"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the result")
    parser.add_argument("--minutes", type=float, default=60, help="time for training, resumed time included")
    parser.add_argument(
        "--start-from", type=Path, help="a BertForSequenceClassification folder; default: MiniLM itself"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--install", action="store_true", help="replace the shipped weights by the result")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=value, help="part of the recipe"
        )
    return parser


def train(options: argparse.Namespace) -> None:
    """Mine, train until the minutes are over, compress. Raises RagInspectError."""
    import torch
    from safetensors.torch import load_file

    from rag_inspect.embedders import load_embedder, minilm_folder
    from rag_inspect.settings import Settings

    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    folder = minilm_folder()
    base = load_file(folder / "model.safetensors")
    state = first_state(options.start_from, base, recipe)
    found = read_sources(options.data)
    rarity = rarity_of(
        [p.full_text for passages, _ in found.values() for p in passages], folder / "tokenizer.json"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if options.minutes > 0:
        embedder = load_embedder("minilm", Settings.from_env())
        rng = np.random.default_rng(0)
        sources = {
            name: mine(
                name,
                *found[name],
                embedder=embedder,
                words=Words(folder / "tokenizer.json", rarity),
                prior_weights=(recipe.cosine_weight, recipe.coverage_weight),
                window=recipe.window,
                rng=rng,
            )
            for name in SHARES
            if name in found
        }
        model, _ = as_model(state, folder)
        run = Training(model, plain_tokenizer(folder / "tokenizer.json"), sources, recipe, options)
        try:
            run.go()
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"out of memory on {options.device} with {recipe.groups} groups of {recipe.negatives + 1} passages; "
                f"lower --groups or --window. Weights are untouched; checkpoints are in {options.out}"
            ) from error
        state = {name: tensor.detach().cpu().float() for name, tensor in model.state_dict().items()}
    write(state, base, rarity, recipe, options.out / WEIGHTS.name, options.minutes)
    if options.install:
        install(options.out / WEIGHTS.name)


def first_state(start: Path | None, base: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """The state to begin with: a trained folder's, its head scaled, or MiniLM's with a head of zeros."""
    import torch
    from safetensors.torch import load_file

    if start is None:
        state = {f"bert.{name}": tensor for name, tensor in base.items() if "position_ids" not in name}
        width = state["bert.pooler.dense.bias"].shape[0]
        return state | {"classifier.weight": torch.zeros(1, width), "classifier.bias": torch.zeros(1)}
    try:
        state = {name: tensor.float() for name, tensor in load_file(start / "model.safetensors").items()}
        return state | {
            name: state[name] * recipe.head_scale for name in ("classifier.weight", "classifier.bias")
        }
    except Exception as error:
        raise ModelError(
            f"{start}: no model to start from ({error}); expected a BertForSequenceClassification"
        ) from error


def write(
    state: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    rarity: np.ndarray,
    recipe: Recipe,
    path: Path,
    minutes: float,
) -> None:
    """Compress to `path`, with its checksum beside it."""
    import torch

    notes = {name: str(value) for name, value in asdict(recipe).items()} | {"minutes": str(minutes)}
    compress(state, base, path, notes=notes, beside={"rarity": torch.from_numpy(rarity).half()})
    checksum = checksum_file(path)
    draft = checksum.with_name(checksum.name + ".part")
    draft.write_text(f"{sha256(path)}  {path.name}\n")
    draft.replace(checksum)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256(path)}")


def install(result: Path) -> None:
    """Put the result and its checksum in the place of the shipped ones."""
    for source, target in ((result, WEIGHTS), (checksum_file(result), checksum_file(WEIGHTS))):
        draft = target.with_name(target.name + ".part")
        shutil.copyfile(source, draft)
        draft.replace(target)


class Training:
    """One run: model, optimizer, random state, the time spent; saved whole and gone on with."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sources: Mapping[str, Source | None],
        recipe: Recipe,
        options: argparse.Namespace,
    ) -> None:
        import torch

        self.model, self.tokenizer, self.recipe, self.options = (
            model.to(options.device),
            tokenizer,
            recipe,
            options,
        )
        tokenizer.enable_truncation(recipe.window, strategy="longest_first")
        held_out = recipe.hold_out.split(",")
        self.sources = {name: source for name, source in sources.items() if source and name not in held_out}
        self.held_out = [source for name, source in sources.items() if source and name in held_out]
        if not self.sources:
            raise CorpusError(
                f"{options.data}: no source has passages enough to train on; expected {', '.join(SHARES)}"
            )
        shares = np.array([SHARES[name] for name in self.sources])
        self.shares = shares / shares.sum()
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not name.startswith(FROZEN)
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        head = [p for name, p in trained if name.startswith("classifier.")]
        body = [p for name, p in trained if not name.startswith("classifier.")]
        self.optimizer = torch.optim.AdamW(
            [{"params": body, "factor": 1.0}, {"params": head, "factor": 3.0}], weight_decay=0.01, fused=True
        )
        self.checkpoint = options.out / "checkpoint.pt"
        self.steps, self.spent = 0, 0.0
        if self.checkpoint.exists():
            self.resume()

    def go(self) -> None:
        """Train until the minutes are over; the learning rate rises over 60 steps and falls with the time left."""
        import torch

        rng = np.random.default_rng(self.steps)
        threads = torch.get_num_threads()
        torch.set_num_threads(
            1
        )  # parts run beside each other: on a busy CPU far better than threads inside one
        losses: list[float] = []
        seconds, started, saved = self.options.minutes * 60, time.monotonic() - self.spent, time.monotonic()
        try:
            with ThreadPoolExecutor(
                max(1, (os.cpu_count() or 1) if self.options.device == "cpu" else 1)
            ) as pool:
                while (passed := time.monotonic() - started) < seconds:
                    rate = (
                        self.recipe.learning_rate
                        * min(1, (self.steps + 1) / 60)
                        * max(0.02, 1 - passed / seconds)
                    )
                    losses.append(self.step(rng, rate, pool))
                    if time.monotonic() - saved > CHECKPOINT_EVERY or self.steps == 1:
                        self.spent, saved = time.monotonic() - started, time.monotonic()
                        self.save()
                        self.report(losses[-200:], seconds - self.spent, pool)
        finally:
            torch.set_num_threads(threads)
        self.spent = seconds
        self.save()

    def step(self, rng: np.random.Generator, rate: float, pool: ThreadPoolExecutor) -> float:
        """One update; the loss."""
        import torch

        names = rng.choice(list(self.sources), self.recipe.groups, p=self.shares)
        drawn = [self.sources[name].draw(rng, self.recipe.negatives) for name in names]
        pairs = [(query, text) for query, rows in drawn for text, _ in rows]
        priors = torch.tensor([prior for _, rows in drawn for _, prior in rows])
        parts, outputs = self.logits(pairs, pool)
        logits = torch.zeros(len(pairs))
        for part, output in zip(parts, outputs, strict=True):
            logits[part] = output.detach().float().cpu()
        logits.requires_grad_()
        total = (logits + priors).view(self.recipe.groups, -1)
        loss = torch.nn.functional.cross_entropy(total, torch.zeros(self.recipe.groups, dtype=torch.long))
        loss.backward()
        slope = logits.grad
        assert slope is not None
        backward: Callable[[Any], None] = lambda work: work[1].backward(slope[work[0]].to(work[1]))  # noqa: E731
        list(pool.map(backward, zip(parts, outputs, strict=True)))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return loss.item()

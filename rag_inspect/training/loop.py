"""The training loop: the prior inside the logit, parts of a step beside each other, saved whole, gone on with.

What comes out is the running mean of the weights over the last steps (Polyak's average), which does better on texts
unlike the training's than the last weights do.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_inspect.errors import CorpusError, ModelError
from rag_inspect.files import write_bytes
from rag_inspect.training.compress import FROZEN
from rag_inspect.training.examples import SHARES, Source
from rag_inspect.transformer import readable, token_batches

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_PART = {"cpu": 512, "cuda": 65536}
SAVE_EVERY = 240.0  # seconds
WARM_UP = 60  # steps
DEV_GROUPS = 40


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint must agree on to be gone on with."""

    cosine_weight: float = 20.0
    coverage_weight: float = 6.0
    learning_rate: float = 5e-5
    groups: int = 5
    negatives: int = 4
    window: int = 192
    averaging: float = 0.998
    dropout: float = 0.0
    sample: float = 1.0
    seed: int = 0
    hold_out: str = "tatqa,va_faq"


class Training:
    """One run: model, optimizer, sources, and how far it is."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sources: Mapping[str, Source],
        recipe: Recipe,
        checkpoint: Path,
        device: str = "cpu",
    ) -> None:
        """`tokenizer` is a plain one of the tokenizers package. Goes on from `checkpoint` if there is one."""
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        held_out = recipe.hold_out.split(",")
        self.sources = {name: source for name, source in sources.items() if name not in held_out}
        self.held_out = [source for name, source in sources.items() if name in held_out]
        if not self.sources:
            raise CorpusError(
                f"no source has passages enough to train on; expected one of {', '.join(SHARES)}"
            )
        self.model = _with_dropout(model, recipe.dropout).to(device).train()
        self.tokenizer = tokenizer
        self.tokenizer.enable_truncation(recipe.window, strategy="longest_first")
        self.recipe, self.checkpoint, self.device = recipe, checkpoint, device
        self.optimizer = _optimizer(model)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
        self.average.update_parameters(model)  # the first is a copy: the average begins with the start
        self.average.eval()  # nothing is dropped where it is judged
        self.steps, self.spent = 0, 0.0
        if checkpoint.exists():
            self._resume()

    def go(self, seconds: float) -> None:
        """Train until `seconds` are spent, those before a resume included; ends with a checkpoint."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(
            1
        )  # parts run beside each other: on a busy CPU far better than threads within one
        losses: list[float] = []
        rng = np.random.default_rng([self.recipe.seed, self.steps])
        started, saved = time.monotonic() - self.spent, 0.0
        try:
            with ThreadPoolExecutor((os.cpu_count() or 1) if self.device == "cpu" else 1) as pool:
                while self.spent < seconds:
                    losses.append(self.step(rng, self._rate(self.spent / seconds), pool))
                    self.spent = time.monotonic() - started
                    if self.spent - saved > SAVE_EVERY or self.spent >= seconds:
                        saved = self.spent
                        self.save()
                        print(self._progress(losses[-200:], seconds, pool), flush=True)
        finally:
            torch.set_num_threads(threads)

    def step(self, rng: np.random.Generator, rate: float, pool: Executor) -> float:
        """One update at this learning rate; the loss."""
        import torch

        names = rng.choice(list(self.sources), self.recipe.groups, p=self._shares())
        drawn = [self.sources[name].draw(rng, self.recipe.negatives) for name in names]
        priors = torch.tensor([[prior for _, prior in rows] for _, rows in drawn])
        pairs = [(query, text) for query, rows in drawn for text, _ in rows]
        parts, outputs = self._forward(self.model, pairs, pool)
        logits = _in_order(parts, outputs).detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(
            logits.view_as(priors) + priors, torch.zeros(len(drawn), dtype=torch.long)
        )
        (slopes,) = torch.autograd.grad(loss, logits)
        list(pool.map(lambda part, output: output.backward(slopes[part].to(output)), parts, outputs))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        self.steps += 1
        return loss.item()

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The running mean of the weights: what the run is for."""
        return self.average.module.state_dict()

    def dev_mrr(self, pool: Executor) -> tuple[float, float]:
        """(prior alone, with the averaged model): MRR@5 over the held-out sources' first groups."""
        import torch

        model = self.average.module.eval()
        ranks: list[tuple[int, int]] = []
        for source in self.held_out:
            for group in source.groups[: DEV_GROUPS // len(self.held_out)]:
                best = max(group.positives, key=group.positives.__getitem__)
                places = [best, *list(group.mined)[:19]]
                priors = torch.tensor([group.positives[best], *list(group.mined.values())[:19]])
                with torch.no_grad():
                    pairs = [(group.query, source.texts[at]) for at in places]
                    parts, outputs = self._forward(model, pairs, pool)
                totals = priors + _in_order(parts, outputs)
                ranks.append(
                    (1 + int((priors[1:] > priors[0]).sum()), 1 + int((totals[1:] > totals[0]).sum()))
                )
        gains = np.where(np.array(ranks) <= 5, 1 / np.array(ranks), 0.0)
        return float(gains[:, 0].mean()), float(gains[:, 1].mean())

    def save(self) -> None:
        """Write the checkpoint; a kill leaves the last one. Raises RagInspectError where it cannot be written."""
        import torch

        content = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "spent": self.spent,
        }
        whole = io.BytesIO()  # written to a path, a full disk would be "unexpected pos 576 vs 534"
        torch.save(content, whole)
        write_bytes(self.checkpoint, whole.getbuffer())

    def _resume(self) -> None:
        import torch

        remedy = "give another --out, or the same options as before"
        try:
            content = torch.load(self.checkpoint, map_location="cpu")  # loading moves it on
            found = content["recipe"]
        except Exception as error:
            raise ModelError(
                f"{self.checkpoint}: no checkpoint of this program ({error}); {remedy}"
            ) from error
        other = {k: v for k, v in asdict(self.recipe).items() if found.get(k) != v}
        if other:
            name, value = next(iter(other.items()))
            raise ModelError(
                f"{self.checkpoint}: another recipe ({name} {found.get(name)}, asked {value}); {remedy}"
            )
        self.model.load_state_dict(content["model"])
        self.average.module.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.steps, self.spent = content["steps"], content["spent"]
        print(f"resumed at step {self.steps}, {self.spent / 60:.1f} minutes in", flush=True)

    def _forward(
        self, model: Any, pairs: Sequence[tuple[str, str]], pool: Executor
    ) -> tuple[list[list[int]], list[Tensor]]:
        """(parts, logits of each part): pairs of like length together, the longest first."""
        rows = self.tokenizer.encode_batch([(readable(query), readable(text)) for query, text in pairs])
        kind = self.device.split(":")[0]
        parts = list(token_batches([len(row.ids) for row in rows], TOKENS_PER_PART.get(kind, 4096)))[::-1]
        return parts, list(pool.map(lambda part: self._logits(model, [rows[at] for at in part]), parts))

    def _logits(self, model: Any, rows: Sequence[Any]) -> Tensor:
        import torch

        width = max(len(row.ids) for row in rows)

        def padded(values: Sequence[Sequence[int]]) -> Tensor:
            return torch.tensor(
                [[*value, *[0] * (width - len(value))] for value in values], device=self.device
            )

        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.device != "cpu"):
            output = model(
                input_ids=padded([row.ids for row in rows]),
                token_type_ids=padded([row.type_ids for row in rows]),
                attention_mask=padded([row.attention_mask for row in rows]),
            )
        return output.logits[:, 0]

    def _rate(self, spent: float) -> float:
        """Rising over the first steps, then falling with the time left."""
        return self.recipe.learning_rate * min(1.0, (self.steps + 1) / WARM_UP) * max(0.02, 1 - spent)

    def _shares(self) -> np.ndarray:
        shares = np.array([SHARES[name] for name in self.sources])
        return shares / shares.sum()

    def _progress(self, losses: Sequence[float], seconds: float, pool: Executor) -> str:
        line = f"step {self.steps}  loss {np.mean(losses):.3f}  "
        if self.held_out:
            prior, model = self.dev_mrr(pool)
            line += f"dev MRR@5 {model:.3f} (prior alone {prior:.3f})  "
        return line + f"{max(0.0, seconds - self.spent) / 60:.1f} minutes left"


def _with_dropout(model: Any, share: float) -> Any:
    """The model, whose layers drop this share of what they give; the weights of attention are left alone."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and not name.endswith(".self.dropout"):
            module.p = share
    return model


def _optimizer(model: Any) -> Any:
    """AdamW over all but the embeddings; the head learns three times as fast."""
    import torch

    for name, parameter in model.named_parameters():
        parameter.requires_grad = not name.startswith(FROZEN)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    head = [p for name, p in trained if name.startswith("classifier.")]
    body = [p for name, p in trained if not name.startswith("classifier.")]
    groups = [{"params": body, "factor": 1.0}, {"params": head, "factor": 3.0}]
    return torch.optim.AdamW(groups, weight_decay=0.01, fused=True)


def _in_order(parts: Sequence[Sequence[int]], outputs: Sequence[Tensor]) -> Tensor:
    """The parts' logits, on the CPU in fp32, in the order of the pairs."""
    import torch

    joined = torch.cat([output.float().cpu() for output in outputs])
    return joined[torch.tensor([at for part in parts for at in part]).argsort()]

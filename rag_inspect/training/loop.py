"""The training loop. The loss adds the prior to the logit, the parts of a step run in parallel, and a run can resume.

The result is the running mean of the weights over the last steps (Polyak averaging), which does better than the last
weights on texts unlike the training texts.
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
from rag_inspect.transformer import batch_by_length, clean_text

if TYPE_CHECKING:
    from torch import Tensor

TOKENS_PER_PART = {"cpu": 512, "cuda": 65536}
SAVE_EVERY = 240.0  # seconds
WARM_UP = 60  # steps
DEV_GROUPS = 40


@dataclass(frozen=True)
class Recipe:
    """The settings of a run; a run can only resume from a checkpoint with the same recipe."""

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
    """One run: model, optimizer, sources and progress."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sources: Mapping[str, Source],
        recipe: Recipe,
        checkpoint: Path,
        device: str = "cpu",
    ) -> None:
        """Resume from `checkpoint` if it exists. `tokenizer` is one of the tokenizers package, not of transformers."""
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        held_out = recipe.hold_out.split(",")
        self.sources = {name: source for name, source in sources.items() if name not in held_out}
        self.held_out = [source for name, source in sources.items() if name in held_out]
        if not self.sources:
            raise CorpusError(
                f"no source has enough passages to train on; expected one of {', '.join(SHARES)}"
            )
        self.model = _set_dropout(model, recipe.dropout).to(device).train()
        self.tokenizer = tokenizer
        self.tokenizer.enable_truncation(recipe.window, strategy="longest_first")
        self.recipe, self.checkpoint, self.device = recipe, checkpoint, device
        self.optimizer = _make_optimizer(model)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
        self.average.update_parameters(
            model
        )  # the first update copies: the average begins at the start weights
        self.average.eval()  # no dropout when it is judged
        self.steps, self.spent = 0, 0.0
        if checkpoint.exists():
            self._resume()

    def train(self, seconds: float) -> None:
        """Train until `seconds` are spent, including those before a resume; ends with a checkpoint."""
        import torch

        threads = torch.get_num_threads()
        # The parts run in parallel, which on a busy CPU is much faster than threads within one part.
        torch.set_num_threads(1)
        losses: list[float] = []
        rng = np.random.default_rng([self.recipe.seed, self.steps])
        started, saved = time.monotonic() - self.spent, 0.0
        try:
            with ThreadPoolExecutor((os.cpu_count() or 1) if self.device == "cpu" else 1) as pool:
                while self.spent < seconds:
                    losses.append(self.step(rng, self._compute_rate(self.spent / seconds), pool))
                    self.spent = time.monotonic() - started
                    if self.spent - saved > SAVE_EVERY or self.spent >= seconds:
                        saved = self.spent
                        self.save()
                        print(self._write_progress(losses[-200:], seconds, pool), flush=True)
        finally:
            torch.set_num_threads(threads)

    def step(self, rng: np.random.Generator, rate: float, pool: Executor) -> float:
        """Make one update at this learning rate; returns the loss."""
        import torch

        names = rng.choice(list(self.sources), self.recipe.groups, p=self._compute_shares())
        drawn = [self.sources[name].draw(rng, self.recipe.negatives) for name in names]
        priors = torch.tensor([[prior for _, prior in rows] for _, rows in drawn])
        pairs = [(query, text) for query, rows in drawn for text, _ in rows]
        parts, outputs = self._forward(self.model, pairs, pool)
        logits = _join_parts(parts, outputs).detach().requires_grad_()
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

    def average_weights(self) -> dict[str, Tensor]:
        """Return the running mean of the weights, the result of the run."""
        return self.average.module.state_dict()

    def dev_mrr(self, pool: Executor) -> tuple[float, float]:
        """Compute MRR@5 of (the prior alone, the averaged model) on the first groups of the held-out sources."""
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
                totals = priors + _join_parts(parts, outputs)
                ranks.append(
                    (1 + int((priors[1:] > priors[0]).sum()), 1 + int((totals[1:] > totals[0]).sum()))
                )
        gains = np.where(np.array(ranks) <= 5, 1 / np.array(ranks), 0.0)
        return float(gains[:, 0].mean()), float(gains[:, 1].mean())

    def save(self) -> None:
        """Write the checkpoint; after a kill the last one is intact. Raises RagInspectError if it cannot be written."""
        import torch

        content = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average_weights(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "spent": self.spent,
        }
        whole = io.BytesIO()  # torch writing to a path reports a full disk as "unexpected pos 576 vs 534"
        torch.save(content, whole)
        write_bytes(self.checkpoint, whole.getbuffer())

    def _resume(self) -> None:
        import torch

        remedy = "give another --out, or the same options as before"
        try:
            content = torch.load(
                self.checkpoint, map_location="cpu"
            )  # load_state_dict moves it to the device
            found = content["recipe"]
        except Exception as error:
            raise ModelError(
                f"{self.checkpoint}: not a checkpoint of this program ({error}); {remedy}"
            ) from error
        other = {k: v for k, v in asdict(self.recipe).items() if found.get(k) != v}
        if other:
            name, value = next(iter(other.items()))
            raise ModelError(
                f"{self.checkpoint}: its recipe differs ({name} is {found.get(name)}, this run has {value}); {remedy}"
            )
        self.model.load_state_dict(content["model"])
        self.average.module.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.steps, self.spent = content["steps"], content["spent"]
        print(f"resumed at step {self.steps}, {self.spent / 60:.1f} minutes in", flush=True)

    def _forward(
        self, model: Any, pairs: Sequence[tuple[str, str]], pool: Executor
    ) -> tuple[list[list[int]], list[Tensor]]:
        """Return (parts, logits of each part); a part has pairs of similar length, the longest first."""
        rows = self.tokenizer.encode_batch([(clean_text(query), clean_text(text)) for query, text in pairs])
        kind = self.device.split(":")[0]
        parts = list(batch_by_length([len(row.ids) for row in rows], TOKENS_PER_PART.get(kind, 4096)))[::-1]
        return parts, list(
            pool.map(lambda part: self._compute_logits(model, [rows[at] for at in part]), parts)
        )

    def _compute_logits(self, model: Any, rows: Sequence[Any]) -> Tensor:
        import torch

        width = max(len(row.ids) for row in rows)

        def pad_batch(values: Sequence[Sequence[int]]) -> Tensor:
            return torch.tensor(
                [[*value, *[0] * (width - len(value))] for value in values], device=self.device
            )

        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.device != "cpu"):
            output = model(
                input_ids=pad_batch([row.ids for row in rows]),
                token_type_ids=pad_batch([row.type_ids for row in rows]),
                attention_mask=pad_batch([row.attention_mask for row in rows]),
            )
        return output.logits[:, 0]

    def _compute_rate(self, spent: float) -> float:
        """Return the learning rate: it rises over the first steps, then falls with the time left."""
        return self.recipe.learning_rate * min(1.0, (self.steps + 1) / WARM_UP) * max(0.02, 1 - spent)

    def _compute_shares(self) -> np.ndarray:
        shares = np.array([SHARES[name] for name in self.sources])
        return shares / shares.sum()

    def _write_progress(self, losses: Sequence[float], seconds: float, pool: Executor) -> str:
        line = f"step {self.steps}  loss {np.mean(losses):.3f}  "
        if self.held_out:
            prior, model = self.dev_mrr(pool)
            line += f"dev MRR@5 {model:.3f} (prior alone {prior:.3f})  "
        return line + f"{max(0.0, seconds - self.spent) / 60:.1f} minutes left"


def _set_dropout(model: Any, share: float) -> Any:
    """Set the dropout of the layers' outputs; the attention weights get none. Returns the model."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and not name.endswith(".self.dropout"):
            module.p = share
    return model


def _make_optimizer(model: Any) -> Any:
    """Make AdamW for all weights except the embeddings; the head learns three times as fast."""
    import torch

    for name, parameter in model.named_parameters():
        parameter.requires_grad = not name.startswith(FROZEN)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    head = [p for name, p in trained if name.startswith("classifier.")]
    body = [p for name, p in trained if not name.startswith("classifier.")]
    groups = [{"params": body, "factor": 1.0}, {"params": head, "factor": 3.0}]
    return torch.optim.AdamW(groups, weight_decay=0.01, fused=True)


def _join_parts(parts: Sequence[Sequence[int]], outputs: Sequence[Tensor]) -> Tensor:
    """Join the parts' logits in the order of the pairs, on the CPU in fp32."""
    import torch

    joined = torch.cat([output.float().cpu() for output in outputs])
    return joined[torch.tensor([at for part in parts for at in part]).argsort()]

"""Train mini on a CPU or one GPU; it stops and goes on as you like:

    python -m rag_inspect.training.train --data ../shared/data/train --minutes 60 --out ../mini-run

The folder --out gets `checkpoint.pt` every few minutes, and the same command goes on from it. At the end it has the
whole weights in `model.safetensors`, for --start-from, and the compressed ones in `mini.safetensors`; only --install
puts these in the place of the shipped ones. Several folders to start from are averaged, weight by weight; with
--minutes 0 nothing is trained, and the start is compressed as it is.

Each step draws groups of one positive and some hard negatives (examples.py), adds the prior (rerankers/mini/prior.py) to the
cross-encoder's logits and takes the softmax cross-entropy over each group: the cross-encoder learns what the
prior misses. sentence-transformers' CrossEncoderTrainer has no place for a prior inside the logit.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rag_inspect.errors import ModelError, RagInspectError
from rag_inspect.files import check_folder, write_bytes, write_text
from rag_inspect.rerankers.mini import WEIGHTS, checksum_file, sha256
from rag_inspect.rerankers.mini.prior import Words, plain_tokenizer
from rag_inspect.rerankers.mini.weights import as_model, expand, read_notes
from rag_inspect.training.compress import compress, measure_rarity
from rag_inspect.training.examples import (
    SHARES,
    Found,
    Kept,
    Source,
    mine,
    read_sources,
    standard_library,
)
from rag_inspect.training.loop import Recipe, Training

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = "model.safetensors"
HEAD = ("classifier.weight", "classifier.bias")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when trained and compressed; 1, with one line on stderr and no weights touched, when not."""
    options = parser().parse_args(arguments)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    try:
        result = make(options, recipe)
        if options.install:
            install(result)
    except RagInspectError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Every option, with its default."""
    parser = argparse.ArgumentParser(
        prog="python -m rag_inspect.training.train",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="passages.jsonl.gz and pairs.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the result")
    parser.add_argument(
        "--minutes", type=float, default=60, help="training time, that before a stop included"
    )
    parser.add_argument(
        "--start-from", nargs="+", default=[], metavar="FOLDER|FILE[:HEAD]",
        help="BertForSequenceClassifications, or files this program wrote, instead of MiniLM, the head of each times so much",
    )  # fmt: skip
    parser.add_argument(
        "--logit-weight", type=float, default=0.5, help="of the cross-encoder in mini's score"
    )
    parser.add_argument("--centre", type=float, default=12.0, help="taken from every score; changes no order")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--install", action="store_true", help="put the result in the shipped one's place")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help="the recipe")
    return parser


def make(options: argparse.Namespace, recipe: Recipe) -> Path:
    """Mine, train until the minutes are over, compress; the file. Raises RagInspectError."""
    from safetensors.torch import load_file, save

    from rag_inspect.hub import minilm_folder

    check_folder(options.out)
    folder = minilm_folder()
    base = load_file(folder / "model.safetensors")
    state = first_state(options.start_from, base)
    found = read_sources(options.data) | standard_library(recipe.sample)
    texts = [passage.full_text for passages, _ in found.values() for passage in passages]
    rarity = measure_rarity(texts, folder / "tokenizer.json")
    if options.minutes > 0:
        words = Words(folder / "tokenizer.json", rarity)
        state = trained(state, mined(found, words, recipe, options.out / "vectors"), recipe, options)
        whole = save({name: tensor.contiguous() for name, tensor in state.items()})
        write_bytes(options.out / WHOLE, whole)
    result = options.out / WEIGHTS.name
    in_sum = {"logit_weight": options.logit_weight, "centre": options.centre}
    notes = {name: str(value) for name, value in (asdict(recipe) | in_sum).items()}
    write(in_the_sum(state, options.logit_weight, options.centre), base, rarity, notes, result)
    return result


def first_state(starts: Sequence[str], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state to begin with: the mean of trained folders', or MiniLM's with a head of zeros."""
    import torch

    if not starts:
        state = {f"bert.{name}": tensor for name, tensor in base.items() if "position_ids" not in name}
        width = len(state["bert.pooler.dense.bias"])
        return state | {"classifier.weight": torch.zeros(1, width), "classifier.bias": torch.zeros(1)}
    states = [whole_state(start, base) for start in starts]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def whole_state(start: str, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state in FOLDER|FILE[:HEAD] as it was trained, its head times HEAD (1 where it is not given)."""
    from safetensors.torch import load_file

    name, _, scale = start.rpartition(":") if re.search(r":[0-9.]+$", start) else (start, "", "1")
    path = Path(name)
    try:
        if path.is_file():
            state = out_of_the_sum(expand(path, base), read_notes(path))
        else:
            state = {name: tensor.float() for name, tensor in load_file(path / WHOLE).items()}
        return state | {name: state[name] * float(scale) for name in HEAD}
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{start}: nothing to start from ({reason}); expected a trained model's folder, or a file made of one"
        ) from error


def out_of_the_sum(state: Mapping[str, Tensor], notes: Mapping[str, str]) -> dict[str, Tensor]:
    """What `in_the_sum` was given, from what it made and the notes that went with it."""
    weight, centre = float(notes["logit_weight"]), float(notes["centre"])
    head, bias = HEAD
    return {**state, head: state[head] / weight, bias: (state[bias] + centre) / weight}


def in_the_sum(state: Mapping[str, Tensor], weight: float, centre: float) -> dict[str, Tensor]:
    """The state whose logit is the cross-encoder's times its weight in mini's score, less the centre."""
    head, bias = HEAD
    return {**state, head: state[head] * weight, bias: state[bias] * weight - centre}


def mined(found: Found, words: Words, recipe: Recipe, vectors: Path) -> dict[str, Source]:
    """The sources' groups, their negatives mined by minilm; what it embedded is kept in `vectors`."""
    from rag_inspect.embedders import load_embedder
    from rag_inspect.settings import Settings

    embedder = Kept(load_embedder("minilm", Settings.from_env()), vectors)
    weights, rng = (recipe.cosine_weight, recipe.coverage_weight), np.random.default_rng(recipe.seed)
    sources = {}
    for name in SHARES:
        passages, queries = found.get(name, ([], []))
        source = mine(
            name,
            passages,
            queries,
            embedder=embedder,
            words=words,
            prior_weights=weights,
            window=recipe.window,
            rng=rng,
            sample=recipe.sample,
        )
        if source:
            sources[name] = source
            print(f"{name}: {len(source.texts)} passages, {len(source.groups)} queries", flush=True)
    return sources


def trained(
    state: Mapping[str, Tensor], sources: Mapping[str, Source], recipe: Recipe, options: argparse.Namespace
) -> dict[str, Tensor]:
    """The state after the minutes that are left of the run in --out."""
    import torch

    from rag_inspect.hub import minilm_folder
    from rag_inspect.transformer import choose_device

    folder = minilm_folder()
    model, _ = as_model(state, folder)
    tokenizer = plain_tokenizer(folder / "tokenizer.json")
    device = choose_device(options.device).type
    try:
        training = Training(model, tokenizer, sources, recipe, options.out / "checkpoint.pt", device)
        training.go(options.minutes * 60)
        return {name: tensor.cpu().float() for name, tensor in training.averaged.items()}
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(
            f"{device} is out of memory with {recipe.groups} groups of {recipe.negatives + 1} passages; "
            f"lower --groups or --window (no weights were touched, the checkpoint is in {options.out})"
        ) from error


def write(
    state: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    rarity: np.ndarray,
    notes: Mapping[str, str],
    path: Path,
) -> None:
    """Compress to `path` and put its checksum beside it."""
    import torch

    compress(state, base, path, notes=notes, beside={"rarity": torch.from_numpy(rarity).half()})
    write_text(checksum_file(path), f"{sha256(path)}  {path.name}\n")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256(path)}", flush=True)


def install(result: Path) -> None:
    """Put the result and its checksum in the place of the shipped ones."""
    write_bytes(WEIGHTS, result.read_bytes())
    write_text(checksum_file(WEIGHTS), checksum_file(result).read_text())


if __name__ == "__main__":
    sys.exit(main())

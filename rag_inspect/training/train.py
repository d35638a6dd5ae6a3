"""Train mini on a CPU or one GPU. You can stop and resume it at any time:

    python -m rag_inspect.training.train --data ../shared/data/train --minutes 60 --out ../mini-run

It writes `checkpoint.pt` into the folder --out every few minutes; the same command resumes from it. At the end the
folder has the full weights in `model.safetensors` (for --start-from) and the compressed ones in `mini.safetensors`;
--install replaces the shipped weights with these. The weights of several --start-from are averaged. --minutes 0 trains
nothing and compresses the start weights.

Each step draws groups of one positive and some hard negatives (examples.py), adds the prior (rerankers/mini/prior.py) to the
cross-encoder's logits and takes the softmax cross-entropy over each group, so the cross-encoder learns what the
prior misses. CrossEncoderTrainer of sentence-transformers cannot add a prior to the logit.
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
from rag_inspect.rerankers.mini.prior import Words, load_tokenizer
from rag_inspect.rerankers.mini.weights import expand, make_model, read_notes
from rag_inspect.training.compress import compress, measure_rarity
from rag_inspect.training.examples import (
    SHARES,
    Found,
    Source,
    StoredEmbedder,
    mine,
    read_sources,
    read_standard_library,
)
from rag_inspect.training.loop import Recipe, Training
from rag_inspect.words import format_count

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = "model.safetensors"
HEAD = ("classifier.weight", "classifier.bias")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and compress. Exit codes: 0 success; 1 error (one line on stderr, the shipped weights unchanged)."""
    options = parser().parse_args(arguments)
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    try:
        result = run(options, recipe)
        if options.install:
            install(result)
    except RagInspectError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Define the options."""
    parser = argparse.ArgumentParser(
        prog="python -m rag_inspect.training.train",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="passages.jsonl.gz and pairs.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the result")
    parser.add_argument(
        "--minutes", type=float, default=60, help="training time, including time before a resume"
    )
    parser.add_argument(
        "--start-from", nargs="+", default=[], metavar="FOLDER|FILE[:HEAD]",
        help="start from these models (a folder, or a file of this program) and not from MiniLM; `:HEAD` scales that one's head",
    )  # fmt: skip
    parser.add_argument(
        "--logit-weight", type=float, default=0.5, help="weight of the cross-encoder's logit in mini's score"
    )
    parser.add_argument(
        "--centre", type=float, default=12.0, help="subtracted from every score; does not change the order"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--install", action="store_true", help="replace the shipped weights with the result")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=value, help="part of the recipe"
        )
    return parser


def run(options: argparse.Namespace, recipe: Recipe) -> Path:
    """Mine examples, train for the minutes given, compress; returns the file. Raises RagInspectError."""
    from safetensors.torch import load_file, save

    from rag_inspect.hub import minilm_folder

    check_folder(options.out)
    folder = minilm_folder()
    base = load_file(folder / "model.safetensors")
    state = load_start(options.start_from, base)
    found = read_sources(options.data) | read_standard_library(recipe.sample)
    texts = [passage.full_text for passages, _ in found.values() for passage in passages]
    rarity = measure_rarity(texts, folder / "tokenizer.json")
    if options.minutes > 0:
        words = Words(folder / "tokenizer.json", rarity)
        state = train_model(
            state, mine_examples(found, words, recipe, options.out / "vectors"), recipe, options
        )
        whole = save({name: tensor.contiguous() for name, tensor in state.items()})
        write_bytes(options.out / WHOLE, whole)
    result = options.out / WEIGHTS.name
    in_sum = {"logit_weight": options.logit_weight, "centre": options.centre}
    notes = {name: str(value) for name, value in (asdict(recipe) | in_sum).items()}
    write(scale_head(state, options.logit_weight, options.centre), base, rarity, notes, result)
    return result


def load_start(starts: Sequence[str], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load the weights to begin with: the mean of trained models, or MiniLM's with a head of zeros."""
    import torch

    if not starts:
        state = {f"bert.{name}": tensor for name, tensor in base.items() if "position_ids" not in name}
        width = len(state["bert.pooler.dense.bias"])
        return state | {"classifier.weight": torch.zeros(1, width), "classifier.bias": torch.zeros(1)}
    states = [load_weights(start, base) for start in starts]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def load_weights(start: str, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load the weights in FOLDER|FILE[:HEAD] as they were trained, with the head scaled by HEAD (default 1)."""
    from safetensors.torch import load_file

    name, _, scale = start.rpartition(":") if re.search(r":[0-9.]+$", start) else (start, "", "1")
    path = Path(name)
    try:
        if path.is_file():
            state = unscale_head(expand(path, base), read_notes(path))
        else:
            state = {name: tensor.float() for name, tensor in load_file(path / WHOLE).items()}
        return state | {name: state[name] * float(scale) for name in HEAD}
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{start}: cannot start from this ({reason}); expected the folder of a trained model, or a compressed file of one"
        ) from error


def unscale_head(state: Mapping[str, Tensor], notes: Mapping[str, str]) -> dict[str, Tensor]:
    """Undo `scale_head`; `notes` are those in the file of the scaled weights."""
    weight, centre = float(notes["logit_weight"]), float(notes["centre"])
    head, bias = HEAD
    return {**state, head: state[head] / weight, bias: (state[bias] + centre) / weight}


def scale_head(state: Mapping[str, Tensor], weight: float, centre: float) -> dict[str, Tensor]:
    """Scale the head so that the logit is multiplied by its weight in mini's score, less the centre."""
    head, bias = HEAD
    return {**state, head: state[head] * weight, bias: state[bias] * weight - centre}


def mine_examples(found: Found, words: Words, recipe: Recipe, vectors: Path) -> dict[str, Source]:
    """Make the sources' groups with negatives mined by minilm, whose vectors are stored in the folder `vectors`."""
    from rag_inspect.embedders import load_embedder
    from rag_inspect.settings import Settings

    embedder = StoredEmbedder(load_embedder("minilm", Settings.from_env()), vectors)
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
            print(f"{name}: {len(source.texts):,} passages, {format_count(len(source.groups))}", flush=True)
    return sources


def train_model(
    state: Mapping[str, Tensor], sources: Mapping[str, Source], recipe: Recipe, options: argparse.Namespace
) -> dict[str, Tensor]:
    """Train for the minutes that are left of the run in --out; returns the averaged weights."""
    import torch

    from rag_inspect.hub import minilm_folder
    from rag_inspect.transformer import choose_device

    folder = minilm_folder()
    model, _ = make_model(state, folder)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    device = choose_device(options.device).type
    try:
        training = Training(model, tokenizer, sources, recipe, options.out / "checkpoint.pt", device)
        training.train(options.minutes * 60)
        return {name: tensor.cpu().float() for name, tensor in training.average_weights().items()}
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(
            f"{device} is out of memory with {recipe.groups} groups of {recipe.negatives + 1} passages; "
            f"lower --groups or --window (the shipped weights are unchanged; the checkpoint is in {options.out})"
        ) from error


def write(
    state: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    rarity: np.ndarray,
    notes: Mapping[str, str],
    path: Path,
) -> None:
    """Compress to `path` and write its checksum beside it."""
    import torch

    compress(state, base, path, notes=notes, beside={"rarity": torch.from_numpy(rarity).half()})
    write_text(checksum_file(path), f"{sha256(path)}  {path.name}\n")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 {sha256(path)}", flush=True)


def install(result: Path) -> None:
    """Replace the shipped weights and their checksum with the result."""
    write_bytes(WEIGHTS, result.read_bytes())
    write_text(checksum_file(WEIGHTS), checksum_file(result).read_text())


if __name__ == "__main__":
    sys.exit(main())

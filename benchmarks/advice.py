"""Is the advice true? Decide from samples of an eval set, and compare each decision with the whole set.

    python -m benchmarks.advice REPLAY... [--samples 500] [--sizes 25,50,100,200]

A REPLAY is the replay.json of `rag-inspect eval --out`; its queries are a population whose truth is known. A decision is
wrong if it says "use" and the system's lift in the population is below the margin, if it says "leave out" and the best
lift is above it, or if its depth loses more than the margin against the same system at full depth. Undecided is never
wrong. Seeded: the same replays give the same table.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np

from rag_inspect.evaluation.document import Decision
from rag_inspect.evaluation.measuring import Measured, measure
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.replay import read_replay
from rag_inspect.metrics import Metric, parse
from rag_inspect.terminal import print_table

SIZES = (25, 50, 100, 200)
SAMPLES = 500
SEED = 20_261_126


@dataclass(frozen=True)
class Truth:
    """What a population says: the mean of the primary metric by (system, depth), and of its best baseline."""

    means: dict[tuple[str, int], float]
    baseline: float
    margin: float

    @classmethod
    def of(cls, found: Measured, outcome: Outcome) -> Truth:
        primary = str(outcome.primary)
        means = {(point.system, point.depth): point.metrics[primary] for point in found.points}
        [baseline] = [each.metrics[primary].value for each in found.results if each.key == found.baseline]
        return cls(means, baseline, outcome.aim.margin)

    def lift(self, system: str) -> float:
        """Return the lift of a reranked system at full depth."""
        return self.means[system, max(depth for key, depth in self.means if key == system)] - self.baseline

    def contradicts(self, decision: Decision) -> bool:
        """Return True if the whole population says otherwise."""
        if decision.verdict == "undecided":
            return False
        if decision.verdict == "leave_out":
            reranked = {key for key, depth in self.means if depth}
            return max(map(self.lift, reranked)) >= self.margin
        full = self.lift(decision.system) + self.baseline
        too_shallow = self.means[decision.use, decision.depth or 0] < full - self.margin
        return self.lift(decision.system) < self.margin or too_shallow


def main() -> None:
    """Read the options and print one row for each replay and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("replays", nargs="+", metavar="REPLAY")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"of each size (default {SAMPLES})")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="queries in a sample")
    options = parser.parse_args()
    rows = []
    for path in options.replays:
        outcome = read_replay(path)
        for size in map(int, options.sizes.split(",")):
            if size < len(outcome.queries):
                rows.append(try_samples(outcome, size, options.samples))
    print_table("Decisions from samples, held against the whole set", list(rows[0]), rows)


def try_samples(outcome: Outcome, size: int, samples: int) -> dict[str, str]:
    """Decide from so many samples; return the row of the table."""
    metrics = [parse(f"mrr@{outcome.top_n}"), Metric("recall", outcome.top_n)]
    found = measure(outcome, metrics)
    truth, generator, counts = Truth.of(found, outcome), np.random.default_rng(SEED), Counter[str]()
    for _ in range(samples):
        rows = generator.choice(len(outcome.queries), size, replace=False)
        decision = measure(outcome.select(rows.tolist()), metrics).decision
        counts[decision.verdict] += 1
        counts["wrong"] += truth.contradicts(decision)
    whole = found.decision
    return {
        "corpus": outcome.corpus,
        "whole set": f"{whole.verdict} ({whole.change.delta:+.3f} against {whole.baseline})",
        "queries": f"{size:,}",
        **{name: f"{counts[name] / samples:.1%}" for name in ("use", "leave_out", "undecided", "wrong")},
    }


if __name__ == "__main__":
    main()

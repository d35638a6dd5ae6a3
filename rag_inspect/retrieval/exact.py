"""Exact search by brute force over stored vectors: the true rank of a passage, and how much of it an index returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Block = tuple[np.ndarray, np.ndarray]
"""(places in the corpus, int (c,); their vectors, float32 (c, dimensions)): a part of an index."""

TOLERANCE = 1e-6  # cosines that differ by less are equal: the last digits depend on the order of the sums


def rank_vectors(queries: np.ndarray, wanted: Sequence[Block], blocks: Iterable[Block]) -> list[np.ndarray]:
    """Return the rank from 1, int, of each query's wanted passages among all passages of the blocks.

    `queries` are unit vectors, float32 (n, dimensions); wanted[i] belongs to query i. Equal cosines keep the corpus's
    order.
    """
    cosines = [vectors @ query for query, (_, vectors) in zip(queries, wanted, strict=True)]
    ahead = [np.zeros(len(places), dtype=int) for places, _ in wanted]
    for places, vectors in blocks:
        found = queries @ vectors.T
        for row, (own, _) in enumerate(wanted):
            above = found[row][None, :] > cosines[row][:, None] + TOLERANCE
            tied = np.abs(found[row][None, :] - cosines[row][:, None]) <= TOLERANCE
            earlier = places[None, :] < own[:, None]
            ahead[row] += (above | (tied & earlier)).sum(axis=1)
    return [count + 1 for count in ahead]


def find_least_cosines(queries: np.ndarray, top_k: int, blocks: Iterable[Block]) -> np.ndarray:
    """Return the cosine of the last of each query's true `top_k` passages, float (n,)."""
    best = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    for _, vectors in blocks:
        both = np.concatenate([best, queries @ vectors.T], axis=1)
        best = -np.sort(-both, axis=1)[:, :top_k]
    return np.asarray(best[:, -1])

"""The colours of every figure and of the report. Colour means quality: of the passages, only gold has one.

No grey reads on both white and near-black at 4.5 to 1: INK does on white, for a saved picture, and on the page the
stylesheet gives the words the theme's own colour. Lines and fills stand out from both at 3 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping

GOLD, NEUTRAL = "#c98a1b", "#8a94a3"
INK, GRID = "#6b7280", "rgba(128,136,148,.25)"
LINES = ("#3b82c4", "#c9772b", "#5f9e5f", "#9277b8", NEUTRAL)  # one a reranker, in their order
PARTS: Mapping[str, str] = {"achieved": "#2f9e5f", "recoverable": "#d9a441", "unreachable": NEUTRAL}
FALLEN = "#c0504d"  # of gold that a reranker moved down
FAINT = "#8883"  # of what fits nowhere: see-through, on paper of either colour

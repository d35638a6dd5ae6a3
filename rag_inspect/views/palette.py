"""The colours of every figure, of the ceiling bar and of the report. Colour means quality: of the passages, only gold has one.

No grey reads on both white and near-black at 4.5 to 1: INK does on white, for a saved picture, and on the page the
stylesheet gives the words the theme's own colour. Lines and fills stand out from both at 3 to 1.
"""

from __future__ import annotations

GOLD, NEUTRAL = "#c98a1b", "#8a94a3"
INK, GRID = "#6b7280", "rgba(128,136,148,.25)"
LINES = ("#3b82c4", "#c9772b", "#5f9e5f", "#9277b8", NEUTRAL)  # one a reranker, in their order
RISEN, FALLEN = "#2f9e5f", "#c0504d"  # of gold that a reranker moved up, and down
# The ceiling bar's parts: what lies under the words, and the words' own colour, which reads on it at 4.5 to 1.
ACHIEVED = ("#2b5fb3", "#fff")
RECOVERABLE = ("#9dbde8", "#10233f")
UNREACHABLE = ("repeating-linear-gradient(45deg, #6b7280 0 6px, #5b6472 6px 12px)", "#fff")
DOES_NOT_FIT = ("#8883", "inherit")  # see-through, on paper of either colour

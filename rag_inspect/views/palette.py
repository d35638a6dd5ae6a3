"""The colours of the figures, the ceiling bars and the report. Colour means quality: only gold passages have one.

No grey has a contrast of 4.5:1 on both white and near-black. INK has it on white, for saved pictures; on the page the
stylesheet gives text the colour of the theme. Lines and fills have 3:1 on both.
"""

from __future__ import annotations

GOLD, NEUTRAL = "#c98a1b", "#8a94a3"
INK, GRID = "#6b7280", "rgba(128,136,148,.25)"
# One per system, in their order; beyond these they begin again.
LINES = ("#3b82c4", "#c9772b", "#5f9e5f", "#9277b8", NEUTRAL, "#3a9696", "#bf6590", "#94863c")
RISEN, FALLEN = "#2f9e5f", "#c0504d"  # gold that a reranker moved up or down
# The parts of a ceiling bar: fill, and the colour of the words on it (contrast 4.5:1).
ACHIEVED = ("#2b5fb3", "#fff")
RECOVERABLE = ("#9dbde8", "#10233f")
UNREACHABLE = ("repeating-linear-gradient(45deg, #6b7280 0 6px, #5b6472 6px 12px)", "#fff")
DOES_NOT_FIT = ("#8883", "inherit")  # translucent, for light and dark backgrounds

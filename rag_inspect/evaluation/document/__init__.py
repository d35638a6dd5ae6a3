"""The typed document of an evaluation, its rows, and the comparison of two. Nothing here computes."""

from rag_inspect.evaluation.document.comparison import ComparedRun, Comparison, VerdictChange
from rag_inspect.evaluation.document.curves import (
    CeilingBar,
    FrontierPoint,
    GoldFlow,
    Thresholds,
    ThresholdStep,
)
from rag_inspect.evaluation.document.decision import Budget, Counts, Decision, DecisionVerdict
from rag_inspect.evaluation.document.levers import Lever, Levers
from rag_inspect.evaluation.document.results import (
    Advice,
    BehindBest,
    Change,
    EvaluationDocument,
    MetricValue,
    Numbers,
    RunSettings,
    SystemResult,
)
from rag_inspect.evaluation.document.rows import QueryResult, RankedQuery, sort_worst_first
from rag_inspect.evaluation.document.slices import Slice

__all__ = [
    "Advice",
    "BehindBest",
    "Budget",
    "CeilingBar",
    "Change",
    "ComparedRun",
    "Comparison",
    "Counts",
    "Decision",
    "DecisionVerdict",
    "EvaluationDocument",
    "FrontierPoint",
    "GoldFlow",
    "Lever",
    "Levers",
    "MetricValue",
    "Numbers",
    "QueryResult",
    "RankedQuery",
    "RunSettings",
    "Slice",
    "SystemResult",
    "ThresholdStep",
    "Thresholds",
    "VerdictChange",
    "sort_worst_first",
]

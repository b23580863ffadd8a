"""Evaluation of one classification head, from the scores of all rows of a split.

Needs numpy only, computes in float64 on one thread, and puts the rows in the order of their ids
first: so every number is bit-identical for any number of workers.
"""

from rayft.metrics.classification import classification_report
from rayft.metrics.names import METRICS, Direction, check_metric
from rayft.metrics.report import ClassificationReport, ClassMetrics, WorstRow

__all__ = [
    "METRICS",
    "ClassMetrics",
    "ClassificationReport",
    "Direction",
    "WorstRow",
    "check_metric",
    "classification_report",
]

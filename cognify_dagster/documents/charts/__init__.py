"""Charts as SVG strings of our own: no library, the same bytes for the same input, in PDF and HTML alike.

A chart never stands alone: each has a title and a description in words, and the table beside it has the same numbers.
"""

from cognify_dagster.documents.charts.bars import Bar, Pair, bars, pairs
from cognify_dagster.documents.charts.drawing import Drawing
from cognify_dagster.documents.charts.lineage import Node, lineage
from cognify_dagster.documents.charts.plots import Measured, calibration, limits
from cognify_dagster.documents.charts.timeline import Moment, timeline

__all__ = [
    "Bar",
    "Drawing",
    "Measured",
    "Moment",
    "Node",
    "Pair",
    "bars",
    "calibration",
    "limits",
    "lineage",
    "pairs",
    "timeline",
]

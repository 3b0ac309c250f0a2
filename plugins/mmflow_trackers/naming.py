"""Names of series, and of files for figures."""

from __future__ import annotations

import re

from mmflow.plugin import Metric


def series(stage: str, name: str) -> str:
    """The name of a series: `train/loss/align`."""
    return f"{stage}/{name}"


def metric_name(stage: str, metric: Metric) -> str:
    """The name of a metric: `retrieval/image → text/R@1`."""
    return "/".join(part for part in (stage, metric.group, metric.heading) if part)


def file_name(stage: str, title: str) -> str:
    """A file name for a figure: `retrieval-similar-pairs.html`."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', f'{stage}-{title}').strip('-').lower()}.html"

"""Where the time of a run went, in a table at its end: in the log and, as `times.csv`, in its MLflow run."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from typing import Any

import pandas as pd
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from kanji_diffusion.tracking import journal, reports

logger = logging.getLogger(__name__)

# Shorter runs, such as those of `generate`, say in a few lines what they do.
_FEWEST_NODES = 8
_LONGEST = 10
_PARTS = ("computing", "loading", "saving", "reporting")
# The nodes that train the VAE and the UNet: all else makes ready for them, or judges what they have made.
_TRAINING = re.compile(r"(train_vae|train_unet|distill)\.(.+\.)?train_\w+")


def _ends(part: str) -> Any:
    """A hook that counts the time since the last one as a `part`, and what the other hooks take as reporting."""

    @hook_impl(wrapper=True)
    def hook(self: TimingHooks, node: Node) -> Generator[None, Any, Any]:
        self._count(node, part)
        try:
            return (yield)
        finally:
            self._count(node, "reporting")

    return hook


class TimingHooks:
    """Times the nodes of a run; one instance serves the one run of a session.

    All time of a node lies in one of four parts: computing, loading and saving its datasets, and reporting, which is
    what the other hooks do, such as copies to MLflow. What Ray's workers do is time of the node that waits for them.
    Kedro's ThreadRunner runs nodes at once, whose shares then add up to more than the run; its ParallelRunner calls no
    hooks in this process, so that there is no table.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start(0)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Start the clock."""
        self._start(len(pipeline.nodes))

    before_dataset_loaded = after_dataset_loaded = before_node_run = _ends("loading")
    after_node_run = _ends("computing")
    before_dataset_saved = after_dataset_saved = _ends("saving")

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """Show the table, and keep it with the run before that is closed."""
        if self._nodes < _FEWEST_NODES or not self._spent:
            return
        total = time.perf_counter() - self._began
        times = node_times(self._spent)
        trained = times["node"].map(_TRAINING.fullmatch).notna()
        share = times.loc[trained, "seconds"].sum() / total
        told = f"\nTraining of VAE and UNet: {share:.0%} of {total / 60:.1f} min." if trained.any() else ""
        logger.info("Where the %.1f min of this run went, in seconds:\n%s%s", total / 60, summary(times, total), told)
        if (current := journal.current()) is not None:
            figures = {"time/minutes": total / 60} | ({"time/training_share": share} if trained.any() else {})
            reports.log_metrics(current, figures, step=0)
            reports.log_text(current, times.round(3).to_csv(index=False), "times.csv")

    def _start(self, nodes: int) -> None:
        self._nodes, self._began = nodes, time.perf_counter()
        self._spent: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._marks: dict[str, float] = {}

    def _count(self, node: Node, part: str) -> None:
        # With `--async` the datasets of a node come in several threads.
        with self._lock:
            now = time.perf_counter()
            spent = self._spent[node.name]
            spent[part] = spent.get(part, 0.0) + now - self._marks.get(node.name, now)
            self._marks[node.name] = now


def node_times(spent: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """A row for each node, in the order in which they ran: pipeline, node, seconds of all and of each part.

    Args:
        spent: Name of a node -> part -> seconds.
    """
    rows = [
        {"pipeline": name.partition(".")[0], "node": name, "seconds": sum(parts.values())}
        | {part: parts.get(part, 0.0) for part in _PARTS}
        for name, parts in spent.items()
    ]
    return pd.DataFrame(rows)


def summary(times: pd.DataFrame, total: float) -> str:
    """The time by pipeline and of the longest nodes, as a table of text.

    Args:
        times: What `node_times` returned.
        total: Seconds of the run.
    """
    columns = ["seconds", *_PARTS]
    pipelines = times.groupby("pipeline")[columns].sum().sort_values("seconds", ascending=False)
    nodes = times.set_index("node")[columns].nlargest(_LONGEST, "seconds")
    rest = pd.DataFrame({"seconds": [max(total - times["seconds"].sum(), 0.0)]}, index=["outside of nodes"])
    table = pd.concat([pipelines, rest, nodes])
    table.insert(1, "share", [f"{value:.0%}" for value in table["seconds"] / total])
    return table.to_string(float_format="{:.1f}".format, na_rep="")

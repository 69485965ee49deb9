import pytest
from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import AbstractDataset, DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner, ThreadRunner

from kanji_diffusion import timing_hooks


class Clock:
    """Goes on when it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing_hooks, "time", clock)
    return clock


class SlowDataset(AbstractDataset):
    """Takes 2 s to load and 3 s to save."""

    def __init__(self, clock):
        self.clock, self.data = clock, 0

    def _load(self):
        self.clock.now += 2
        return self.data

    def _save(self, data):
        self.clock.now += 3
        self.data = data

    def _describe(self):
        return {}


class SlowReports:
    """Another hook, which takes 1 s."""

    def __init__(self, clock):
        self.clock = clock

    @hook_impl
    def after_dataset_saved(self):
        self.clock.now += 1


def run(clock, names, runner):
    """Run nodes that compute for 10, 20, ... s, each on what the one before has made."""

    def wait(seconds):
        def compute(_):
            clock.now += seconds
            return seconds

        return compute

    nodes = [
        Node(wait(10 * (number + 1)), f"data_{number}", f"data_{number + 1}", name=name)
        for number, name in enumerate(names)
    ]
    pipeline = Pipeline(nodes)
    catalog = DataCatalog({f"data_{number}": SlowDataset(clock) for number in range(len(names) + 1)})
    manager = _create_hook_manager()
    hooks = timing_hooks.TimingHooks()
    for each in (SlowReports(clock), hooks):
        manager.register(each)
    manager.hook.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=catalog)
    runner.run(pipeline, catalog, manager)
    clock.now += 4
    manager.hook.after_pipeline_run(run_params={}, run_result={}, pipeline=pipeline, catalog=catalog)
    return hooks


NAMES = ["draw.a", "draw.b", "draw.c", "train_vae.train_vae", "train_vae.check", "train_unet.small.train_stage",
         "train_unet.small.sample_stage", "evaluate.train_reader"]  # fmt: skip


@pytest.mark.parametrize("runner", [SequentialRunner(), SequentialRunner(is_async=True), ThreadRunner(max_workers=1)])
def test_each_second_of_a_run_is_counted_once_and_where_it_was_spent(clock, caplog, runner):
    hooks = run(clock, NAMES, runner)
    times = timing_hooks.node_times(hooks._spent)
    assert times["node"].tolist() == NAMES
    assert times["computing"].tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    for part, seconds in (("loading", 2), ("saving", 3), ("reporting", 1)):
        assert (times[part] == seconds).all(), part
    assert times["seconds"].sum() == 8 * 6 + 360
    # 40 and 60 s of computing and twice 6 of the rest, of 412 s.
    assert "Training of VAE and UNet: 27% of 6.9 min." in caplog.text
    # The longest pipeline first, then what is in no node, then the longest nodes.
    rows = [line.split() for line in caplog.messages[-1].splitlines()[2:-1]]
    assert [row[0] for row in rows] == [
        "train_unet", "train_vae", "evaluate", "draw", "outside", "evaluate.train_reader",
        "train_unet.small.sample_stage", "train_unet.small.train_stage", *reversed(NAMES[:5]),
    ]  # fmt: skip
    assert rows[0][1:] == ["142.0", "34%", "130.0", "4.0", "6.0", "2.0"]
    assert rows[4] == ["outside", "of", "nodes", "4.0", "1%"]


def test_a_run_of_a_few_nodes_has_no_table_and_the_next_one_starts_anew(clock, caplog):
    hooks = run(clock, NAMES[:7], SequentialRunner())
    assert "min of this run went" not in caplog.text
    hooks.before_pipeline_run(Pipeline([]))
    assert not hooks._spent

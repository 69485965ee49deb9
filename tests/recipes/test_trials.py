"""Trials are made once, go on after a stop, and change with everything that they depend on."""

import json

import numpy as np
import pytest

from kanji_diffusion.core import progress
from kanji_diffusion.recipes import trials as module
from kanji_diffusion.recipes.arms import IMPROVED, NULL, ORIGINAL, PRACTICES, STEPS, arms
from kanji_diffusion.recipes.comparison import recipe_figures, recipe_gains, run_trials, timed_figures
from kanji_diffusion.recipes.glyphs import SYNONYM, TRAINED, ZERO_SHOT

TIMES = ("seconds", "timed")


@pytest.fixture
def counted(monkeypatch):
    """Counts trainings of UNets, and stops at the one that is named."""
    calls, train = [], module.train_recipe

    def count(practices, *arguments, **options):
        calls.append(practices)
        if len(calls) == count.stop:
            raise KeyboardInterrupt
        return train(practices, *arguments, **options)

    count.stop = 0
    monkeypatch.setattr(module, "train_recipe", count)
    return calls, count


def plain(trial):
    report = {name: value for name, value in trial.report.items() if name not in TIMES}
    return json.dumps(report, sort_keys=True), trial.scores.to_csv(), trial.pictures.tobytes()


def test_the_arms_add_one_practice_or_take_one():
    every = {arm.name: arm for arm in arms(tuple(PRACTICES))}
    assert len(every) == 3 + 2 * len(PRACTICES)
    original, improved = every[ORIGINAL].practices, every[IMPROVED].practices
    assert original == frozenset() and improved == set(PRACTICES) - {NULL}
    for arm in every.values():
        if arm.practice:
            assert arm.practices ^ every[arm.base].practices == {arm.practice}


def test_a_stopped_comparison_loses_what_was_trained_last(trials, settings, counted, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0)
    calls, count = counted
    count.stop = 4
    with pytest.raises(KeyboardInterrupt):
        run_trials(trials(tmp_path / "stopped"), settings)
    count.stop = 0
    done = run_trials(trials(tmp_path / "stopped"), settings)
    # More than in one go: the training that was stopped, and one whose model was to be sampled in another way too.
    stopped = len(calls)
    whole = run_trials(trials(tmp_path / "whole"), settings)
    assert 1 <= stopped - (len(calls) - stopped) <= 2
    assert [plain(trial) for trial in done] == [plain(trial) for trial in whole]
    assert not list((tmp_path / "stopped").glob(".partial*"))
    told = [record.getMessage() for record in caplog.records if record.name == progress.__name__]
    assert told and all(line.startswith("comparing recipes: ") for line in told)
    again = len(calls)
    run_trials(trials(tmp_path / "whole"), settings)
    assert len(calls) == again
    shared_training(done, calls[stopped:again], settings)
    tables(done, settings)


def shared_training(done, trained, settings):
    """Recipes that differ in sampling alone are trained once; the one that does nothing has other weights."""
    assert len(trained) == len(done) - 2 * settings.seeds
    first = {trial.arm.key: trial for trial in done if trial.seed == 0}
    assert first[f"{ORIGINAL} + sampling"].report["loss"] == first[ORIGINAL].report["loss"]
    assert first[f"{ORIGINAL} + {NULL}"].report["loss"] != first[ORIGINAL].report["loss"]
    assert first[f"{ORIGINAL} + {NULL}"].report["parameters"] == first[ORIGINAL].report["parameters"]
    improved = first[f"{IMPROVED} (operations)"].report
    cost = improved["operations"] * len(improved["loss"]) / (first[ORIGINAL].report["operations"] * 4)
    # Steps are whole numbers, and here there are four.
    assert cost == pytest.approx(1, abs=0.25)
    # The highest learning rate of the ladder is absurd.
    assert {trial.report["ceiling"] for trial in done if trial.arm.compute == STEPS} <= {0.0, 0.003}


def tables(done, settings):
    figures, gains, timed = recipe_figures(done), recipe_gains(done, settings), timed_figures(done)
    read = figures[(figures["arm"] == ORIGINAL) & (figures["measure"] == "nearest")]["value"].item()
    scores = [trial.scores for trial in done if trial.arm.name == ORIGINAL]
    means = [each.loc[each["kind"] == TRAINED, "nearest"].mean() for each in scores]
    assert read == pytest.approx(np.mean(means))
    assert set(scores[0]["kind"]) == {TRAINED, SYNONYM, ZERO_SHOT}
    sampling = gains[(gains["practice"] == "sampling") & (gains["measure"] == "parameters")]
    assert (sampling["gain"] == 0).all()
    assert set(timed["arm"]) == {ORIGINAL, IMPROVED, "today"} and (timed["pictures_per_second"] > 0).all()


def test_another_setting_is_another_trial(trials, settings, counted, tmp_path):
    calls, _ = counted
    arm = arms(())[0]
    trials(tmp_path).run(arm, 0)
    trials(tmp_path).run(arm, 0)
    assert len(calls) == 1
    drawing = settings.sampling.model_copy(
        update={"original": settings.sampling.original.model_copy(update={"steps": 1})}
    )
    trials(tmp_path, settings.model_copy(update={"sampling": drawing})).run(arm, 0)
    trials(tmp_path).run(arm, 1)
    assert len(calls) == 3


def test_zero_shot_characters_are_built_of_what_was_trained(chosen):
    roles = chosen.groupby("role")["character"].agg(set)
    assert roles[ZERO_SHOT] <= {"休", "林"}
    assert len(roles[TRAINED]) == 7
    assert not set(chosen["synonym"].dropna()) & set(chosen["subject"])

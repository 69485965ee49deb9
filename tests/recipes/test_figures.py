"""Gains, intervals and verdicts, on values of which the truth is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.evaluation.intervals import crossed_interval
from kanji_diffusion.recipes import report
from kanji_diffusion.recipes.arms import IMPROVED, NULL, ORIGINAL, arms
from kanji_diffusion.recipes.claims import claim_table, null_check, summarise, verdict
from kanji_diffusion.recipes.comparison import recipe_figures, recipe_gains, timed_figures
from kanji_diffusion.recipes.curves import roughness
from kanji_diffusion.recipes.glyphs import SYNONYM, TRAINED, ZERO_SHOT
from kanji_diffusion.recipes.trials import Trial

PRACTICES = ("norm", "depth", "sampling", NULL)
SETTINGS = SimpleNamespace(practices=PRACTICES)


def trial(arm, seed, random):
    """A practice that is there adds 0.2 of overlap if it is depth, and takes it if it is norm."""
    has = arm.practices or frozenset()
    overlap = 0.5 + 0.2 * ("depth" in has) - 0.2 * ("norm" in has) + 0.02 * random.normal(size=12)
    scores = pd.DataFrame({"kind": [TRAINED] * 12, "overlap": overlap})
    scores = pd.concat([scores, pd.DataFrame({"kind": [SYNONYM, ZERO_SHOT], "overlap": 0.5})], ignore_index=True)
    scores = scores.assign(**dict.fromkeys(("read", "nearest", "shuffled", "holes"), 0.5), style_right=np.nan)
    rough = 0.4 * (0.5 if "norm" in has else 1) * np.exp(0.01 * random.normal())
    curves = {"gradient_roughness": rough, "loss_roughness": 0.1, "loss": [1.0, 0.5], "gradient_norm": [1.0, 2.0]}
    vae = {"gradient_roughness": 0.3, "loss_roughness": 0.2, "overlap": 0.9, "holes": 0.9, "read": 1.0}
    timed = [
        {"sampler": name, "steps": 8, "guidance_scale": 1.0, "seconds": seconds, "read": 0.5}
        | {"nearest": 0.5, "overlap": 0.5}
        for name, seconds in (("ddpm", 0.1), ("plms", 0.2 + 0.001 * seed))
    ]
    figures = {"distance": 0.1, "skipped": 0, "ceiling": 0.01, "parameters": 100, "operations": 1e6}
    return Trial(arm, seed, curves | figures | {"autoencoder": vae, "timed": timed}, scores, np.zeros((12, 8, 8)))


@pytest.fixture(scope="module")
def planted():
    random = np.random.default_rng(0)
    return [trial(arm, seed, random) for seed in range(3) for arm in arms(PRACTICES)]


@pytest.fixture(scope="module")
def found(planted):
    gains, timed = recipe_gains(planted, SETTINGS), timed_figures(planted)
    return gains, timed, claim_table(gains, timed, recipe_figures(planted))


def test_an_interval_over_seeds_and_pictures_holds_what_it_should():
    random = np.random.default_rng(1)
    held = []
    for _ in range(400):
        seeds, pictures = random.normal(size=(3, 1)), 2 * random.normal(size=(1, 20))
        estimate = crossed_interval(seeds + pictures + random.normal(size=(3, 20)))
        held.append(estimate.low <= 0 <= estimate.high)
    assert 0.94 <= np.mean(held) <= 1
    alone = crossed_interval(np.array([[1.0], [2.0], [3.0]]))
    assert (alone.low, alone.high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=0.001)
    assert np.isnan(crossed_interval(np.ones((1, 1))).low)


def test_roughness_is_that_of_the_noise_and_not_of_the_trend():
    steps = np.arange(1000)
    noise = np.random.default_rng(0).normal(size=1000)
    assert roughness(2 - 0.001 * steps) < 0.001
    assert roughness(1.5 - 0.001 * steps + 0.1 * noise) == pytest.approx(0.1, rel=0.1)
    assert np.isnan(roughness([1.0, np.nan]))


@pytest.mark.parametrize("change", ["added", "taken"])
def test_what_is_planted_is_found_whichever_way_it_is_asked(found, change):
    gains = found[0].query("change == @change and measure == 'overlap'").set_index("practice")
    depth, norm = gains.loc["depth"], gains.loc["norm"]
    assert depth["low"] > 0.15 and depth["gain"] == pytest.approx(0.2, abs=0.02)
    assert norm["high"] < -0.15 and norm["gain"] == pytest.approx(-0.2, abs=0.02)
    smooth = found[0].query("change == @change and measure == 'gradient_roughness' and practice == 'norm'").iloc[0]
    # Half as rough is twice as smooth.
    assert smooth["percent"] == pytest.approx(100, abs=5) and smooth["low"] > 0


def test_a_practice_that_does_nothing_brings_nothing(found):
    nulls = null_check(found[0])
    # One in twenty by chance.
    assert len(nulls) > 20 and nulls["false_alarm"].sum() <= 2
    assert set(nulls["change"]) == {"added"}


def test_claims_are_judged_by_their_intervals(found):
    _, _, claims = found
    first = claims.drop_duplicates(["claim", "change"]).set_index(["claim", "change"])["verdict"]
    assert first["more depth", "added"] == "a gain, smaller than claimed"
    assert first["GroupNorm and SiLU for BatchNorm and LeakyReLU", "added"] == "a gain, larger than claimed"
    assert first["guidance 7.5 over 50 steps of PLMS", "taken"] == "false: it is worse"
    # Depth and norm cancel.
    assert first["all of them", "whole"] == "not found: no gain beyond the interval"


@pytest.mark.parametrize(
    ("low", "high", "percent", "words"),
    [
        (-0.1, 0.2, None, "no gain beyond the interval"),
        (-0.1, 0.2, 50, "not found: no gain beyond the interval"),
        (-0.2, -0.1, 50, "false: it is worse"),
        (-0.2, -0.1, None, "worse"),
        (0.1, 0.2, None, "a gain"),
        (0.1, 0.2, 15, "a gain"),
        (0.1, 0.2, 50, "a gain, smaller than claimed"),
        (0.1, 0.2, 5, "a gain, larger than claimed"),
        (np.nan, np.nan, 5, "no interval"),
    ],
)
def test_verdicts(low, high, percent, words):
    assert verdict({"low": low, "high": high, "percent_low": 100 * low, "percent_high": 100 * high}, percent) == words


def test_the_report_tells_what_was_found(planted, found):
    gains, timed, claims = found
    tables = report.tables(claims, recipe_figures(planted), gains, timed)
    text = report.markdown(tables)
    assert (
        "| more depth | quality +100 % (2 to 4 stars) | stroke overlap with it | added to the original, equal steps |"
        in text
    )
    assert "+20." in text and f" of {len(null_check(gains))} gains of a practice that does nothing" in text
    rows = {line.count("|") for line in text.splitlines() if line.startswith("| more depth")}
    assert rows == {8}
    sheet = report.recipe_sheet({ORIGINAL: np.zeros((3, 32, 32), np.uint8)}, np.zeros((3, 32, 32), np.uint8))
    page = report.render_page(tables, report.gain_plot(gains), sheet, ["About."])
    assert page.count("<table>") == 5 and "http" not in page.split("</style>")[1].split("<img")[0]
    summary = summarise(claims, gains, timed)
    assert summary["null"]["beyond"] == null_check(gains)["false_alarm"].sum()
    assert summary["claims"]["more depth"]["added, equal steps"]["without"] == pytest.approx(0.5, abs=0.02)
    assert summary["wholes"][f"{IMPROVED}, equal steps"]["parameters"] == 100

"""What the plan that this project grew out of says of each practice, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kanji_diffusion.recipes.arms import IMPROVED, NULL, OPERATIONS, STEPS
from kanji_diffusion.recipes.comparison import MEASURES, records

# In place of the name of a measure: pictures a second, and the standard deviation of the stroke overlap over seeds.
SPEED = "speed"
SPREAD = "spread"
_COSTS = ("parameters", "operations")


@dataclass(frozen=True)
class Claim:
    """One line of the plan.

    Attributes:
        title: What is done.
        says: What the plan says that it brings.
        percent: By how much; None if it gives no figure.
        stars: Before and after, by which that figure is explained.
        measures: By which it is judged, the first first.
        practice: Which is added or taken; None for the whole recipe.
    """

    title: str
    says: str
    percent: float | None
    stars: tuple[int, int] | None
    measures: tuple[str, ...]
    practice: str | None


CLAIMS = (
    Claim(
        "GroupNorm and SiLU for BatchNorm and LeakyReLU",
        "training stability",
        67,
        (3, 5),
        (
            "gradient_roughness",
            "loss_roughness",
            "ceiling",
            "vae_gradient_roughness",
            "vae_loss_roughness",
            SPREAD,
            "overlap",
        ),
        "norm",
    ),
    Claim("a deeper time embedding", "no figure", None, None, ("overlap", "read", "gradient_roughness"), "time"),
    Claim(
        "a longer prompt", "text understanding", 100, (2, 4), ("understood", "synonym", "zero_shot", "read"), "prompt"
    ),
    Claim("more depth", "quality", 100, (2, 4), ("overlap", "read", "holes", "distance"), "depth"),
    Claim("guidance 7.5 over 50 steps of PLMS", "inference speed", 33, (3, 4), (SPEED, "overlap", "read"), "sampling"),
    Claim("all of them", "architecture", 150, (2, 5), ("overlap", "read", "parameters", "operations"), None),
)
"""The lines of the plan."""


def verdict(found: Mapping[str, Any], percent: float | None = None) -> str:
    """What follows from a gain with its interval, in a few words.

    Args:
        found: `low` and `high` of the gain, `percent_high` of its share of what there is without.
        percent: What is claimed.
    """
    low, high = found["low"], found["high"]
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    if high < 0:
        return "false: it is worse" if percent else "worse"
    if low <= 0:
        return "not found: no gain beyond the interval" if percent else "no gain beyond the interval"
    if percent and found["percent_high"] < percent:
        return "a gain, smaller than claimed"
    if percent and found["percent_low"] > percent:
        return "a gain, larger than claimed"
    return "a gain"


def speed_gain(timed: pd.DataFrame) -> dict[str, Any]:
    """Pictures a second of the improved model by PLMS at guidance 7.5, against the original's sampling, as a gain."""
    rows = timed[timed["arm"] == IMPROVED]
    without, within = rows.iloc[0], rows.iloc[1]
    shares = {name: within[bound] - 1 for name, bound in (("gain", "speed"), ("low", "low"), ("high", "high"))}
    return (
        {
            "base": IMPROVED,
            "change": "taken",
            "compute": STEPS,
            "measure": SPEED,
            "without": without["pictures_per_second"],
        }
        | {"with": within["pictures_per_second"], **shares}
        | {"percent": 100 * shares["gain"], "percent_low": 100 * shares["low"], "percent_high": 100 * shares["high"]}
    )


def _spread_gains(part: pd.DataFrame, figures: pd.DataFrame) -> list[dict[str, Any]]:
    """The spread over seeds without a practice and with it; three seeds give it no interval."""
    spreads = figures[figures["measure"] == "overlap"].set_index(["arm", "compute"])["spread"]
    rows = []
    for row in part[part["measure"] == "overlap"].to_dict("records"):
        pair = float(spreads[row["base"], STEPS]), float(spreads[row["arm"], row["compute"]])
        without, within = pair[::-1] if row["change"] == "taken" else pair
        unknown = dict.fromkeys(("low", "high", "percent", "percent_low", "percent_high"), math.nan)
        names = {name: row[name] for name in ("base", "change", "compute")}
        rows.append(names | unknown | {"measure": SPREAD, "without": without, "with": within, "gain": without - within})
    return rows


def claim_table(gains: pd.DataFrame, timed: pd.DataFrame, figures: pd.DataFrame) -> pd.DataFrame:
    """The plan's lines with what was measured, one row for each line, measure, change and what is equal.

    Args:
        gains: What `recipe_gains` returned.
        timed: What `timed_figures` returned.
        figures: What `recipe_figures` returned.

    Returns:
        claim, says, claimed (percent), stars, measure, change, compute, without, with, gain and percent with their
        bounds, and `verdict`. Lines of practices that were left out of the comparison are missing.
    """
    rows: list[dict[str, Any]] = []
    for claim in CLAIMS:
        if claim.practice is None:
            part = gains[(gains["arm"] == IMPROVED) & (gains["change"] == "whole")]
        else:
            part = gains[gains["practice"] == claim.practice]
        if part.empty:
            continue
        names = {"claim": claim.title, "says": claim.says, "claimed": claim.percent}
        names["stars"] = "to".join(f" {count} " for count in claim.stars).strip() if claim.stars else None
        for measure in claim.measures:
            if measure == SPEED:
                found = [speed_gain(timed)]
            elif measure == SPREAD:
                found = _spread_gains(part, figures)
            else:
                found = records(part[part["measure"] == measure])
            for row in found:
                if math.isnan(row["gain"]) or (measure in _COSTS and row["compute"] != STEPS):
                    continue
                # The first measure is the one that the plan's figure is held against.
                judged = verdict(row, claim.percent if measure == claim.measures[0] else None)
                kept = {name: value for name, value in row.items() if name not in ("arm", "practice")}
                rows.append(names | kept | {"verdict": "what it costs" if measure in _COSTS else judged})
    return pd.DataFrame(rows)


def null_check(gains: pd.DataFrame) -> pd.DataFrame:
    """The gains of the practice that does nothing, with whether each is beyond its interval (`false_alarm`)."""
    part = gains[(gains["practice"] == NULL) & (gains["compute"] == STEPS) & gains["low"].notna()]
    return part.assign(false_alarm=(part["low"] > 0) | (part["high"] < 0))


def summarise(table: pd.DataFrame, gains: pd.DataFrame, timed: pd.DataFrame) -> dict[str, Any]:
    """The report: verdicts by line, how many gains of the null practice are beyond their intervals, time."""
    lines: dict[str, Any] = {}
    for claim in CLAIMS:
        rows = table[(table["claim"] == claim.title) & (table["measure"] == claim.measures[0])] if len(table) else table
        found = {
            f"{row['change']}, equal {row['compute']}": {
                name: row[name] for name in ("without", "with", "gain", "low", "high", "percent", "verdict")
            }
            for row in rows.to_dict("records")
        }
        if found:
            lines[claim.title] = {"says": claim.says, "claimed": claim.percent, "measure": claim.measures[0]} | found
    nulls = null_check(gains)
    wholes = gains[gains["change"] == "whole"].to_dict("records")
    return {
        "claims": lines,
        "null": {"gains": len(nulls), "beyond": int(nulls["false_alarm"].sum())},
        "wholes": {
            f"{row['arm']}, equal {row['compute']}": {
                each["measure"]: each["with"]
                for each in wholes
                if (each["arm"], each["compute"]) == (row["arm"], row["compute"])
            }
            for row in wholes
        },
        "sampling": timed.to_dict("records"),
    }


def measure_title(name: str) -> str:
    """What a measure is called in tables."""
    others = {SPEED: "pictures a second", SPREAD: "standard deviation of the stroke overlap over seeds"}
    return others.get(name) or MEASURES[name].title


def equal(compute: str) -> str:
    """What is equal in a comparison, in words."""
    return "equal operations" if compute == OPERATIONS else "equal steps"

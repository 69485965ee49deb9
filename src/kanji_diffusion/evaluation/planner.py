"""How often the planner finds the component that a real kanji has for its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.planning.planner import Planner

_SCHOOL_GRADES = (1, 2, 3, 4, 5, 6, 8)
_PROPOSALS = (1, 5)


def school_kanji(planner: Planner) -> pd.DataFrame:
    """Kanji that are taught at school and are made of two components, one of them marked as the radical.

    Returns:
        character, radical (a component that the planner can propose), meanings; in the planner's order.
    """
    compositions, dictionary = planner.tables["compositions"], planner.tables["dictionary"]
    taught = dictionary[dictionary["grade"].isin(_SCHOOL_GRADES)]
    table = compositions.merge(taught, on="character").dropna(subset="radical")
    two = table["character"].map(lambda each: len(list(planner.compositions.of(each).components())) == 2)
    kept = table[two & table["radical"].isin(set(planner.semantic.components))]
    return kept[["character", "radical", "meanings"]].reset_index(drop=True)


def component_rates(planner: Planner, kanji: pd.DataFrame, meanings: int = 1, seed: int = 0) -> pd.DataFrame:
    """Whether the true component is among the first that are proposed, for kanji that count as unknown.

    Their own entry, and those of their variants, are hidden from votes and regression, and they are no components.
    What chance would reach is measured with the meanings of another of the kanji, drawn at random, hidden likewise.

    Args:
        planner: The planner.
        kanji: What `school_kanji` returned, or some of its rows.
        meanings: How many of the first meanings are averaged; 1 for what somebody types.
        seed: Of the shuffling.

    Returns:
        One row per number of proposals: proposals, kanji, rate, rate_low, rate_high (95 % over the kanji), shuffled
        (rate with the meanings of other kanji), ratio of the two.
    """
    vectors = np.stack([_mean(planner, list(each)[:meanings]) for each in kanji["meanings"]])
    scores = [
        planner.semantic.score(vector, {character})
        for vector, character in zip(vectors, kanji["character"], strict=True)
    ]
    ranked = [np.argsort(-score)[: max(_PROPOSALS)] for score in scores]
    order = np.random.default_rng(seed).permutation(len(ranked))
    hits = _hits(planner, ranked, kanji["radical"])
    chance = _hits(planner, [ranked[other] for other in order], kanji["radical"])
    rows = []
    for count in _PROPOSALS:
        found = interval(np.asarray(hits[:, :count].any(1)), kanji["character"], seed)
        row = {"proposals": count, "kanji": len(kanji)} | found.named("rate")
        rows.append(row | {"shuffled": chance[:, :count].any(1).mean()})
    return pd.DataFrame(rows).assign(ratio=lambda table: table["rate"] / table["shuffled"])


def planner_report(planner: Planner | None, most: int, seed: int = 0) -> dict[str, Any]:
    """How often the planner proposes the true component, from the first meaning of kanji taught at school.

    Args:
        planner: None for a model without one.
        most: At most so many kanji, spread evenly.
        seed: Of the shuffling and the bootstrap.

    Returns:
        `kanji`, and for the first proposal (`at_1`) and the first five (`at_5`): `rate`, `rate_low`, `rate_high` and
        `shuffled`, with the meanings of other kanji; or `missing`, with the reason.
    """
    if planner is None:
        return {"missing": {"planner": "the model has no planner"}}
    kanji = school_kanji(planner)
    if kanji.empty:
        return {"missing": {"planner": "it knows no kanji of two components that is taught at school"}}
    rows = evenly(len(kanji), most)
    rates = component_rates(planner, kanji.iloc[rows].reset_index(drop=True), seed=seed)
    names = ["rate", "rate_low", "rate_high", "shuffled"]
    by_count = rates.set_index("proposals")[names].to_dict("index")
    return {"kanji": len(rows)} | {f"at_{count}": figures for count, figures in by_count.items()}


def summary(report: Mapping[str, Any]) -> str:
    """A `planner_report` in a sentence."""
    if "at_1" not in report:
        return f"Planner: not measured, for {report['missing']['planner']}."
    first, five = report["at_1"], report["at_5"]
    return (
        f"Planner: the true component is the first proposal for {100 * first['rate']:.1f} % of {report['kanji']} kanji "
        f"(with the meanings of other kanji {100 * first['shuffled']:.1f} %) and among the first five for "
        f"{100 * five['rate']:.1f} %."
    )


def plan_rates(planner: Planner, kanji: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The same of whole plans: whether one of the parts of the first plans is the true component.

    Words that hold the kanji are hidden too. Each plan has two parts, so that chance reaches more.

    Args:
        planner: The planner.
        kanji: What `school_kanji` returned, or some of its rows.
        seed: Of the shuffling.

    Returns:
        As `component_rates`, without an interval.
    """
    found: list[list[set[str]]] = []
    for character, meanings in zip(kanji["character"], kanji["meanings"], strict=True):
        plans = planner.propose(meanings[0], max(_PROPOSALS), {character})
        found.append([{part.base or "" for part in plan.composition.components()} for plan in plans])
    order = np.random.default_rng(seed).permutation(len(found))
    rows: list[dict[str, Any]] = []
    for count in _PROPOSALS:
        hits, chance = (
            np.mean([any(true in parts for parts in plans[:count]) for true, plans in pairs])
            for pairs in (
                list(zip(kanji["radical"], each, strict=True)) for each in (found, [found[other] for other in order])
            )
        )
        rows.append({"proposals": count, "kanji": len(kanji), "rate": hits, "shuffled": chance})
    return pd.DataFrame(rows).assign(ratio=lambda table: table["rate"] / table["shuffled"])


def _mean(planner: Planner, meanings: Sequence[str]) -> np.ndarray:
    vector = planner.meanings.vectors(meanings).mean(axis=0)
    return vector / np.linalg.norm(vector)


def _hits(planner: Planner, ranked: Sequence[np.ndarray], true: pd.Series) -> np.ndarray:
    components = np.array(planner.semantic.components)
    return np.stack([components[rows] == component for rows, component in zip(ranked, true, strict=True)])

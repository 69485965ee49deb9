"""How well the planner finds the component of a meaning: `.venv/bin/python tests/benchmarks/planner.py [FOLDER]`.

FOLDER is that of a planner: the newest version in data/06_models/planner by default. Of the school kanji of two
components, whose own entries are hidden, it prints how often the true one is among the first proposals, and how often
with the meanings of other kanji; then the plans of the meanings without a kanji that the package lists.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from kanji_diffusion.evaluation.invented import list_meanings
from kanji_diffusion.evaluation.planner import component_rates, plan_rates, school_kanji
from kanji_diffusion.planning.planner import Planner


def main(folder: Path | None, plans: int, every: int) -> None:
    """Print the tables."""
    newest = folder or max(Path("data/06_models/planner").glob("*/planner"))
    planner = Planner.from_pretrained(newest)
    kanji = school_kanji(planner)
    tables = {f"component, {count} meanings": component_rates(planner, kanji, count) for count in (1, 3)}
    if every:
        tables[f"plan, every {every}th kanji"] = plan_rates(planner, kanji.iloc[::every].reset_index(drop=True))
    print(pd.concat(tables, names=["proposed", None]).droplevel(1).round(3).to_string())
    for meaning in list_meanings(planner.tables["dictionary"], None) if plans else []:
        for plan in planner.plan(meaning, plans):
            print(f"{plan.score:5.2f} {plan.source:10} {plan.ids}  {plan.reason}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--plans", type=int, default=2, help="plans of each meaning; 0 for none")
    parser.add_argument("--every", type=int, default=8, help="plans of every so manieth kanji are measured; 0 for none")
    asked = parser.parse_args()
    main(asked.folder, asked.plans, asked.every)

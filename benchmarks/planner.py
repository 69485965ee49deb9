"""Measures how often the planner finds the true component of a kanji from its meaning.

Run after `make run`, from the project's root: `.venv/bin/python -m benchmarks.planner [--env E]`. Of the school kanji
of two components, whose own entries are hidden from the newest `planner`, it prints how often the true one is among the
first proposals, and how often with the meanings of other kanji; then the plans of the meanings without a kanji that the
package lists.
"""

from __future__ import annotations

import argparse

import pandas as pd
from benchmarks.project import open_catalog

from kanji_diffusion.evaluation.invented import list_meanings
from kanji_diffusion.evaluation.planner import component_rates, plan_rates, school_kanji


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=2, help="plans of each meaning; 0 for none")
    parser.add_argument("--every", type=int, default=8, help="plans of every so manieth kanji are measured; 0 for none")
    parser.add_argument("--env")
    asked = parser.parse_args()
    print(__doc__.splitlines()[0], flush=True)
    with open_catalog(asked.env) as catalog:
        planner = catalog.load("planner")
    kanji = school_kanji(planner)
    tables = {f"component, {count} meanings": component_rates(planner, kanji, count) for count in (1, 3)}
    if asked.every:
        some = kanji.iloc[:: asked.every].reset_index(drop=True)
        tables[f"plan, every {asked.every}th kanji"] = plan_rates(planner, some)
    print(pd.concat(tables, names=["proposed", None]).droplevel(1).round(3).to_string())
    for meaning in list_meanings(planner.tables["dictionary"], None) if asked.plans else []:
        for plan in planner.plan(meaning, asked.plans):
            print(f"{plan.score:5.2f} {plan.source:10} {plan.ids}  {plan.reason}")


if __name__ == "__main__":
    main()

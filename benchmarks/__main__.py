"""`make bench`: run every benchmark, print a table, and write `benchmarks/results.json`.

`BENCH_SCALE=0.05` makes everything smaller for a quick look; `ARGS="load"` runs one part. The parts `operator` and
`rotation` need the programs of the test cluster.
"""

import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import claims, crm, isolation, load, oauth, operator, queue, rotation, size, throttle
from benchmarks.bed import open_bed
from benchmarks.result import Result
from tests.cluster.program_files import ProgramMissingError, all_names, find

PARTS = {
    "queue": queue.results,
    "claims": claims.results,
    "load": load.results,
    "isolation": isolation.results,
    "size": size.results,
    "throttle": throttle.results,
    "crm": crm.results,
    "oauth": oauth.results,
    "operator": operator.results,
    "rotation": rotation.results,
}
ON_A_CLUSTER = {"operator", "rotation"}
RESULTS_FILE = Path(os.environ.get("BENCH_RESULTS", Path(__file__).with_name("results.json")))


def main() -> None:
    """Run the parts named on the command line, or all."""
    names = sys.argv[1:] or list(PARTS)
    if ON_A_CLUSTER & set(names):
        _require_cluster_programs()
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    found: list[Result] = []
    console = Console(width=140)
    with open_bed() as bed:
        for name in names:
            console.print(f"measuring {name} at scale {scale:g} …")
            part = PARTS[name](bed, scale)
            found += part
            console.print(_table(part))
    RESULTS_FILE.write_text(json.dumps([result.as_json() for result in found], indent=2) + "\n")
    console.print(f"{sum(r.met is True for r in found)} goals met, {sum(r.met is False for r in found)} missed")


def _require_cluster_programs() -> None:
    """End at once, not after the other parts, if a program of the test cluster is not here."""
    try:
        for name in all_names():
            find(name)
    except ProgramMissingError as error:
        others = " ".join(part for part in PARTS if part not in ON_A_CLUSTER)
        raise SystemExit(f'{error}; or measure the rest: make bench ARGS="{others}"') from error


def _table(results: list[Result]) -> Table:
    table = Table("figure", "value", "goal", "met", "unit", "detail")
    for result in results:
        goal = "" if result.goal is None else f"{result.goal:,g}"
        met = {None: "", True: "yes", False: "NO"}[result.met]
        table.add_row(result.name, f"{result.value:,.3f}", goal, met, result.unit, result.detail)
    return table


if __name__ == "__main__":
    main()

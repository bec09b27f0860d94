"""The benchmarks run, small, and write down every figure they promise. Whether goals are met is for `make bench`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = {
    "worker_noop_ratio",
    "whole_life_ratio",
    "claim_backlog_ratio",
    "sql_per_delivery",
    "fairness_p99_ratio",
    "deliveries_per_second",
    "cpu_us_per_delivery",
    "latency_p50_ms",
    "latency_p99_ms",
    "wal_bytes_per_delivery",
}


@pytest.mark.serial
def test_every_promised_figure_is_measured_and_written_down(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    environment = {**os.environ, "BENCH_SCALE": "0.005", "BENCH_RESULTS": str(results)}
    subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, env=environment, check=True, timeout=280)
    found = json.loads(results.read_text())

    assert {figure["name"] for figure in found} >= FIGURES
    assert all(set(figure) == {"name", "value", "goal", "met", "unit", "detail"} for figure in found)
    assert all(figure["value"] > 0 for figure in found)
    # What no machine excuses: claiming costs no more for a backlog, and statements are shared by many deliveries.
    by_name = {figure["name"]: figure["value"] for figure in found}
    assert by_name["claim_backlog_ratio"] < 3
    assert by_name["sql_per_delivery"] < 1

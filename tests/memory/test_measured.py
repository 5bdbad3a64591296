"""The projection against the stored measurements: the gates that docs/memory.md states."""

from __future__ import annotations

from pathlib import Path

from tests.gpu.report import errors, rows, summary, table

MEMORY = Path(__file__).parents[2] / "docs" / "memory.md"


def test_held_out_families_stay_within_the_gates():
    """Median 1.5 %, mean 2.5 %, worst 5 % of the allocated peak; driver-visible total 3 % median."""
    held = [run for run in rows() if run["split"] == "held-out"]
    allocated = summary(errors(held, "allocated_bytes"))
    assert len(held) >= 30
    assert allocated["median"] <= 0.015
    assert allocated["mean"] <= 0.025
    assert allocated["worst"] <= 0.05
    assert summary(errors(held, "driver_bytes"))["median"] <= 0.03


def test_no_run_needs_more_than_its_upper_bound_and_no_bound_is_idle():
    for run in rows():
        measured = run["measured"]["allocated_bytes"]
        assert measured <= run["projected"]["upper_bytes"] <= 1.05 * measured, run["name"]


def test_projection_was_made_where_it_was_measured():
    for run in rows():
        for package, version in run["projection_versions"].items():
            assert run["versions"][package].split("+")[0] == version.split("+")[0]


def test_the_docs_print_the_table():
    assert table() in MEMORY.read_text("utf-8")

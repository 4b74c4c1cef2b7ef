"""Every operator along time is compared with a copy of the same bytes."""

from benchmarks.operators import measure_operators


def test_operators_are_compared_with_a_copy():
    rows = measure_operators(
        batch=1, frames=2, stages=[(8, 4)], rounds=1, values_per_run=2**10
    ).rows
    assert {row["operator"] for row in rows} == {"shift", "depth-wise", "dynamic", "gate", "mean"}
    assert {row["precision"] for row in rows} == {"32", "bf16"}
    assert all(row["ratio"] > 0 and row["authors"] > 0 for row in rows)

"""Side-by-side measurements: every form in one process, alternating, medians, machine facts."""

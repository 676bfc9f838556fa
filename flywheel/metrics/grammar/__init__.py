"""Formulas over per-sample scores as they stand in flywheel.toml: text to tree, nothing is computed."""

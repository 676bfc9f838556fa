"""The single metric: formulas of flywheel.toml, parsed, checked, and computed over per-sample scores."""

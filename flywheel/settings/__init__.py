"""Sections of flywheel.toml that are large enough for a file of their own; see `flywheel.project`."""

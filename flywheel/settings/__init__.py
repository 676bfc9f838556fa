"""The sections of flywheel.toml, one frozen class each; `flywheel.project` reads the file."""

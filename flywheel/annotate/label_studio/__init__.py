"""The labeling backend for Label Studio; the only code that calls its API."""

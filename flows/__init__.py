"""The flows: the only importers of Prefect. What a step does is in flywheel.loop."""

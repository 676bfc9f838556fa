"""The flows: the only place that knows Prefect. What a step does stands in flywheel.loop."""

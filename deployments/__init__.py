"""What flywheel schedule registers with Prefect; prefect.yaml is read as data."""

"""What stands on Prefect's server: deployments, automations, pools, and their examination."""

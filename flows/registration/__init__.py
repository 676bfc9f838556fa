"""What is registered with Prefect's server: deployments, automations, pools, and their checks."""

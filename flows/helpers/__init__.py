"""Shared by the flows: steps, events, run names, progress, and the client of Prefect."""

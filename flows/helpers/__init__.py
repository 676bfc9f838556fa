"""What every flow shares: its steps, events, names, progress, and the client of Prefect."""

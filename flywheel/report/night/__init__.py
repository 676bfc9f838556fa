"""The pages of one night: HTML, Markdown for Prefect, and one page a step."""

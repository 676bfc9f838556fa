"""The overview page: every night at a glance."""

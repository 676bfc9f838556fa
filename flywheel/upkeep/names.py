"""What the parts of upkeep call the same thing."""

BACKUP_LOCK = "the back-up"
"""held by a back-up and by a cleaning, which would take away what the other is copying"""

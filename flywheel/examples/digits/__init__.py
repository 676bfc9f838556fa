"""Scanned digits: the small example, a classifier that runs anywhere."""

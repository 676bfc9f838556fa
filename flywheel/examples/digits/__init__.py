"""Scanned digits: the small example, a classifier that anyone can run."""

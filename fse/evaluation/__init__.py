"""Metrics of a detector on annotated data."""

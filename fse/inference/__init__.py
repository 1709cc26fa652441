"""Exporting a trained detector and running it."""

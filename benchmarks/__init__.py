"""Benchmarks and stress tests, each a script with a `--help`."""

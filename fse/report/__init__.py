"""The HTML report of an experiment, the comparison of a sweep, and drawings of landmarks."""

"""Processes, files, locks and output folders: what every stage needs from the operating system."""

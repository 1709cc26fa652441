"""Data sets: where images come from, how annotations are read, and the stage that brings both into one form."""

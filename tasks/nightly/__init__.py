"""The nightly regression: what is measured each night, how it is judged, kept, shown and announced.

Nothing here but `commands` knows Luigi. `gates` decides, `history` keeps, `baseline` is what people accepted, `night` plays
one night, `page` shows it, `alarms` tells of it, `bisect` finds the commit.
"""

"""Commands that run no stage: they report on a workspace or maintain it."""

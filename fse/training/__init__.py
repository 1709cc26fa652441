"""Training: the stage, its graph, its loop and its checkpoints."""

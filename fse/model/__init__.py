"""The network, its heatmaps and landmarks, and the losses."""

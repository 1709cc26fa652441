"""Training with several processes: ranks, their launcher, and the connections between hosts."""

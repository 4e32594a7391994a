"""The run log: append-only, its state, the order of stages, publication of folders, one driver."""

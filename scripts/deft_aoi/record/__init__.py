"""The run record: an append-only log, its view, the order of stages, publication of folders, one driver."""

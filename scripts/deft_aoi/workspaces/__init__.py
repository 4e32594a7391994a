"""Making and checking workspaces: the rendered demo, DeepPCB, the user's own data, and the read-only check of any."""

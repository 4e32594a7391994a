"""Which stage is next, the stages themselves, the gate, the stop and the hand-over."""

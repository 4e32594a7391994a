"""The eleven read-only checks of the pre-flight, by what they look at."""

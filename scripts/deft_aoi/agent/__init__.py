"""The skill without an IDE: consent, typed tools, the runner, transcripts, replay, token usage.

This room starts scripts as subprocesses and imports only ``contract`` of this project.
"""

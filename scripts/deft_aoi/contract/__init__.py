"""What is on disk and how it is named: errors, paths, files, text, CSV, spec, KPI target, schemas.

This room imports nothing else of ours; every other room may import it.
"""

"""Pure functions on arrays and frames: KPI sweep, intervals, gaps, identity by content, leakage, dataset assembly.

This room imports ``contract`` and nothing else of ours.
"""

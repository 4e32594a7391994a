"""The report: context from disk, inline-SVG charts, one template; also the summary of an iteration and comparisons."""

"""The HTML report: context from disk, one template, charts as inline SVG."""

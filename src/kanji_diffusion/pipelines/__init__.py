"""The six pipelines: wiring and thin nodes."""

"""Deterministic answers without any model: for first runs, demos and people's own tests. One file a task."""

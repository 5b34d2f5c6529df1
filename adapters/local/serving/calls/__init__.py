"""The ways in which models write tool calls: how each reads, piece by piece."""

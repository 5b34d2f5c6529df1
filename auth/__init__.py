"""Who calls. Imports nothing of ours."""

"""Mirrors the packages file for file; `support/` holds the servers that tests talk to."""

"""Tests of `adapters.local.serving` that need no torch."""

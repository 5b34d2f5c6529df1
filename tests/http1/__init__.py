"""Tests of `adapters.http1`, file for file."""

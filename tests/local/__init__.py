"""Tests of `adapters.local`, file for file."""

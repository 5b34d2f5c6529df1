"""Backends: everything that can answer a request, and the vocabulary they share.

Nothing in here knows of our HTTP server, of keys or of settings.
"""

"""Servers on real sockets and clients that read bytes, shared by the tests."""

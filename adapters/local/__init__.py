"""Engines: inference servers on this machine or elsewhere, each a process that speaks OpenAI over a socket."""

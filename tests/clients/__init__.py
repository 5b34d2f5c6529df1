"""Cloudflare's own clients, run against a live relay. `make test-clients` installs and runs them."""

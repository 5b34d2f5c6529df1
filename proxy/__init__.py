"""The server: routes, dispatch, streams, settings and the `relay` command."""

"""One module for each command of `relay`; each holds a click command named `command`."""

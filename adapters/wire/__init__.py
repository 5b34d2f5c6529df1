"""Pure codecs, one wire format a file, both directions: no I/O, no clock, no randomness."""

"""Documents to Markdown: what can be read, by which reader, in a process of its own."""

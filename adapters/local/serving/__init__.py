"""What the child process of an engine of kind `transformers` runs: OpenAI's dialect over `adapters.local.inference`."""

"""The relay's own engine: continuous batching over one transformers model. Nothing else imports torch."""

"""What the relay's own engine does beside other ways to run the same model."""

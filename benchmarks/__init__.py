"""What the relay costs: `python -m benchmarks`, or `make bench`. Not a test; Linux only, since it reads /proc."""

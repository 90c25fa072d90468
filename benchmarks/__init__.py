"""What a message costs, beside the libraries that people use today: ``python -m benchmarks``."""

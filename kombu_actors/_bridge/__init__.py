"""All that the caller's threads and the runtime's share, and nothing else."""

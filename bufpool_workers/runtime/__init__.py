"""What one process owns: pools, counter file, keys, jobs."""

"""What can be wrong with a host, a process or its numbers, and what to do."""

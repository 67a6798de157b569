"""The package beside real neighbours, in workers of their own: `make neighbours`."""

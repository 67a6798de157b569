"""Checks of a host, a process and its numbers; none needs a job system."""

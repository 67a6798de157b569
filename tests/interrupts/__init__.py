"""A storm of asynchronous exceptions over pools: ours, and what one writes in Python."""

"""Counter files: written, merged and read, without prometheus_client."""

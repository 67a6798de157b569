"""The test-suites of RQ and Dramatiq, run with our adapter in them."""

"""Counter files, their compaction, and the scrape. Knows nothing of the memory pools."""

"""German picture descriptions: the common patterns."""

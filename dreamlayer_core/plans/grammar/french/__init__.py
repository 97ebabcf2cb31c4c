"""French picture descriptions: the common patterns."""

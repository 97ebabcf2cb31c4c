"""Japanese picture descriptions: the common patterns."""

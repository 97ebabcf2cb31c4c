"""Chinese picture descriptions: the common patterns."""

"""English picture descriptions."""

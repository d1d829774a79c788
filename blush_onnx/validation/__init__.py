"""Whether a map can be believed: masks, local resolution, tests for overfitting."""

"""How good a model is on structures it never saw, beside filters and other models."""

"""Training data, training, evaluation and fine-tuning of Blush models (docs/training.md)."""

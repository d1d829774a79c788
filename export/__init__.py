"""From a PyTorch checkpoint to a model folder, with the proof that both agree."""

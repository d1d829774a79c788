"""The network and whole maps on a card: our engine, what ONNX Runtime could do, PyTorch."""

"""``python -m blush_onnx``, the same as the command ``blush-onnx``."""

from blush_onnx.cli import main

if __name__ == "__main__":
    main()

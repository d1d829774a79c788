"""Names of the commands below ``blush-onnx relion``."""

COMMANDS = {
    "install-wrapper": ("wrapper", "Put a relion_python_blush into a folder of RELION's PATH."),
    "external": ("external", "Denoise maps as a job of RELION's type External."),
}
"""Module and help of each."""

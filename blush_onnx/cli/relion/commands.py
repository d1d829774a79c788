"""Names of the commands below ``blush-onnx relion``."""

COMMANDS = {
    "install-wrapper": (
        "blush_onnx.cli.relion.wrapper:wrapper",
        "Put a relion_python_blush into a folder of RELION's PATH.",
    ),
    "external": (
        "blush_onnx.cli.relion.external:external",
        "Denoise maps as a job of RELION's type External.",
    ),
}
"""Place and help of each."""
JOB = "job"
"""The command that stands for the group itself, and is not to be seen."""

"""Bundle ChimeraX-BlushONNX: the command ``blush``."""

try:
    from chimerax.core.toolshed import BundleAPI
except ImportError:  # outside ChimeraX, where denoising.py is used by itself
    bundle_api = None
else:

    class _API(BundleAPI):
        """What ChimeraX calls."""

        api_version = 1

        @staticmethod
        def register_command(_bundle_info, command_info, logger):
            """Register the command when it is first used."""
            from . import command

            command.register_command(command_info, logger)

    bundle_api = _API()

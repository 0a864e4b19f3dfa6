"""The errors a user can cause or must hear of. Every message says what, where, expected, got and what to do."""


class VitruvianError(Exception):
    """Something failed that the user can act on; the command line prints it without a traceback and exits 1."""


class UsageError(VitruvianError):
    """The command or its configuration is wrong; nothing was run. The command line exits 2."""

"""The errors a user can cause or must hear of. Messages say what, where, expected, got, what to do."""


class VitruvianError(Exception):
    """Something failed that the user can act on; the command line prints it, no traceback, and exits 1."""


class UsageError(VitruvianError):
    """The command or its configuration is wrong; nothing was run. The command line exits 2."""


class ShardError(VitruvianError):
    """Bytes at rest are not what they must be: a damaged or refused tar, a sidecar or manifest that
    disagrees.
    """

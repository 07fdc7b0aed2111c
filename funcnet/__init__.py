"""The command line: starts services as processes and imports none of them.

FuncnetError  what a user can act on; the message names the next step
"""


class FuncnetError(Exception):
    """What a user can act on."""

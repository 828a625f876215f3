"""The error for problems that the user can fix."""


class InputError(ValueError):
    """A problem with a file, flag or directory that the user can fix.

    The program prints it as one line, without a traceback.
    """

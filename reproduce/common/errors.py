"""What went wrong in the user's hands rather than in the program."""


class InputError(ValueError):
    """A file, flag or directory that the user can put right.

    Printed as one line, without a traceback.
    """

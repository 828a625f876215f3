"""The five tasks of the program."""

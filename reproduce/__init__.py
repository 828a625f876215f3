"""Runnable examples of R-Drop, a package each."""

"""Divergences between the outputs of several passes."""

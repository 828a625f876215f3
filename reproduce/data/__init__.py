"""Readers of the paper's data sets, and of data that packages carry."""

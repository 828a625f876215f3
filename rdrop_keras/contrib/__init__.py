"""Additions that few models need."""

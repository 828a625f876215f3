"""Search and generation."""

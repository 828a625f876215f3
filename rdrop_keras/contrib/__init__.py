"""Parts that few models need."""

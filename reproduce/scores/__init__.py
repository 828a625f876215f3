"""What generated text is scored by."""

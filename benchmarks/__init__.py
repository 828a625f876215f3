"""Speed and memory, one command each."""

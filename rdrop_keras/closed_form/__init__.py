"""Task loss and consistency with their gradients written out."""

"""Task loss and consistency in closed form, with explicit gradients."""

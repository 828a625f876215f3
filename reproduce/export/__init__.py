"""SavedModels: the only part that needs TensorFlow."""

"""From the outputs of several passes to one loss."""

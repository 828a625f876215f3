"""The R-Drop objective: one loss from the outputs of several passes."""

"""Parts that all tasks share: arms, run files, checkpoints, plots, tables."""

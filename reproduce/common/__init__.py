"""What all examples share: arms, flags, run directories, plots, tables."""

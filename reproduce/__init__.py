"""The paper's experiments: python -m reproduce VERB TASK."""

"""The paper's runs: python -m reproduce VERB TASK."""

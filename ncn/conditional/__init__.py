"""Conditional compute: what skipping branches and compressing caches costs a trained model."""

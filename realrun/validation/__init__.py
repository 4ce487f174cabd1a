"""Predictions held against measured runs of the same configurations."""

"""Intervals, tests and rank correlations, whatever they are of."""

"""Hostile input for every parser and loader: each ends in what it should, or in one line."""

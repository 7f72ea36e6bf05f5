"""The published run as this project refers to it: its text, its log, its figures, its claims."""

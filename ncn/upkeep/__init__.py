"""Commands that keep a project in order: its experiments, what DVC recorded, what is left over."""

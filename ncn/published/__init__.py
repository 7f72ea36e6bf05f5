"""The published run as this project refers to it: text, settings, log, figures and claims."""

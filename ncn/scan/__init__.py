"""The brain scan: signals on text, and tests of what they show."""

"""The control network: what it reads, and how it sets the signals."""

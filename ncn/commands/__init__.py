"""What `python -m ncn` offers."""

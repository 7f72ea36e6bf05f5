"""The preprint's claims: what is said, the rule that judges it, the figures that decide."""

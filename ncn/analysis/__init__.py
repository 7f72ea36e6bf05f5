"""The runs side by side: how far they differ, how they learned."""

"""Models on a hub, with a card; and models of the published code."""

"""Where text comes from: a grammar, a hub, mirrors, local files."""

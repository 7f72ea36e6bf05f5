"""From text to rows of token ids: stories, vocabulary, split, files."""

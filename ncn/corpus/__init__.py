"""From stories to rows of token ids: vocabulary, parts, files."""

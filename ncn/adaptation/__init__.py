"""A trained model goes on with a second text: all of it, or a part."""

"""Text as stories: where each begins and ends, what is wrong with it, which stand there twice."""

"""What is shown of a training: what it will take, and how its texts read. No number of a result."""

"""What a trained model is worth: losses, future leak, caches, gradients."""

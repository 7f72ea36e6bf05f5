"""Kernels and their plain PyTorch references; this package knows nothing of ncn."""

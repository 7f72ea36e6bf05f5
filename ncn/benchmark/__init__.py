"""What a control network costs, and what the kernels save."""

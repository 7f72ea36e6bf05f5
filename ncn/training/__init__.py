"""Training one model: the loop, its step, its log, what it resumes from."""

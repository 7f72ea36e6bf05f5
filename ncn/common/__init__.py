"""What cannot change a number: errors, whole files, paths, progress, times, stopping."""

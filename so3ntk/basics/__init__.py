"""What every folder uses and that knows nothing of kernels: arguments, arrays, files, progress, plots."""

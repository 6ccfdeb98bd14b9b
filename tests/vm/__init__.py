"""What only some kernels have: a test is skipped by name where it is missing."""

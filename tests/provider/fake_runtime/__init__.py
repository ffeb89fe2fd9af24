"""A runtime of a few lines, to test the provider without the real one."""

"""The compiled form: a kernel in C for the CPU."""

"""The compiled form of the memories: a kernel in C for the CPU."""

"""Other memories than the plastic network, a file each."""

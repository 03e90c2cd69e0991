"""What came out of experiments: read back, kept as records, and written as pages."""

"""Programs that measure speed, memory and parity, and print JSON lines."""

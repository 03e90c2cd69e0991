"""Images: encoders, and what sets beside an embedding its label."""

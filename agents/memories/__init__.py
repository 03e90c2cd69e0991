"""Other memories than the plastic network, and torch's recurrent modules as cores."""

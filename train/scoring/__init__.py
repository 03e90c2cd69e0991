"""From outputs to answers to measures, and what they are compared with."""

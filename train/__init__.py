"""Programs that train, score and draw networks with plastic weights, and the `plastic` command."""

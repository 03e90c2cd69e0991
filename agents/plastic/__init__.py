"""The network whose weights change during an episode: rules, cells, and how it is computed."""

"""Pictures and texts of episodes: pure functions of arrays and labels, which know no task."""

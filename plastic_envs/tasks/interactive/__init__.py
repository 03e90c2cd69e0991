"""Tasks in which what comes next depends on the action, one file each."""

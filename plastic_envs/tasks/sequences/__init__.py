"""Tasks in which what is seen does not depend on the answers, one file each."""

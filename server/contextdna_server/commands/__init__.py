"""The commands, one file each. stdout is the result, stderr the messages; exit codes 0 good, 1 bad, 2 asked wrongly."""

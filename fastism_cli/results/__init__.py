"""The result file: format, crash-safe writing, reading, merging."""

"""Results in front of a person's eyes: pictures of regions and a report of a whole file."""

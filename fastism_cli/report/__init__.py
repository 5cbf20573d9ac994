"""A result in front of a person: pictures and the HTML page."""

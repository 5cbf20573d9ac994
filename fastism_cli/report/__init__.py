"""Results for people to look at: pictures and the HTML page."""

"""Forms of the project's own API: checked where they enter, described where they leave."""

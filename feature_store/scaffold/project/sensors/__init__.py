"""This project's automation: what triggers what, how often, and whether it runs from the start."""

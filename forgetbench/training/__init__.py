"""The candidate's training: its data."""

"""What is noted of every call while it passes: its record, its messages, its tokens."""

"""The terminal: tables, live view, findings, and the commands that show them."""

"""What people see on a terminal: tables, live view, findings."""

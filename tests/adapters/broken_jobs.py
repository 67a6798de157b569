"""A module that ends the process which imports it."""

raise SystemExit("no process imports this and lives")

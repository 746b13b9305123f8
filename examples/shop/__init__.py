"""What both shops share: the database, the stores in front of it, and the pages. Nothing here knows a web framework."""

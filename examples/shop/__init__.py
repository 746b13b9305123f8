"""What both shops share: the database and the pages. Nothing in here knows of a web framework or a cache."""

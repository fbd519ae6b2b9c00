"""How fast and how well it learns."""

"""Models fetched from a hub, checked, converted, and kept in a folder of the user's."""

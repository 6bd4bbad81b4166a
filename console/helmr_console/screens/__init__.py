"""The console's screens: four areas, and what opens over them."""

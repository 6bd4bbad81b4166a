"""The console's widgets. Those with many rows draw only the visible lines."""

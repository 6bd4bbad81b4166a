"""The console's widgets. Those with many rows draw only the lines that show."""

"""What the shape of the sources is measured by: `make gauges`."""

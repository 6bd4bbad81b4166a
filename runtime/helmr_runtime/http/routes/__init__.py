"""The routes by noun. Each router's routes are `HelmrRoute`s: see there for what happens around them."""

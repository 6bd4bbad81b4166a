"""What starts, watches and ends processes, and the shells of the actors that run in them."""

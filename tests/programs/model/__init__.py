"""The contract as a naive model, and every way into the product held against it."""

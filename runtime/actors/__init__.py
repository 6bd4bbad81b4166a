"""The actors: session, directory, ledger, gateway, and what starts and calls them."""

"""What the tests of the gate run its real clients with."""

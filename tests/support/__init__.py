"""What the tests of several rooms share: oracles and stand-ins."""

"""The benchmark: `make bench`. Not part of the test suite."""

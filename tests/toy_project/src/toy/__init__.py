"""A project of three nodes, for the tests of what the real one builds on."""

"""The Windows program on Linux: a Windows Python under Wine, both installers, and the test of what they install."""

"""The sandbox for untrusted videos."""

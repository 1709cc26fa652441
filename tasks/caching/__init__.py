"""What makes keys and outputs safe: digests of code and data, reasons to run, locks."""

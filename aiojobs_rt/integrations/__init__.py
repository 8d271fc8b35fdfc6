"""What connects this package with others. Each module needs its own extra, and nothing here is imported unless an application does."""

"""What users of Helmr build on, as lines of text that can be compared between versions: Python, HTTP, command line."""

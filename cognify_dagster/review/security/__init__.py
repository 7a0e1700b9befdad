"""What guards every request: headers, size and time limits, where a form came from."""

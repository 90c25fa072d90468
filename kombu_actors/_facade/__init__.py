"""What the documented names are made of: blocking, run in the caller's thread; never imports trio."""

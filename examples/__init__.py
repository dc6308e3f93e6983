"""Small programs to copy from; see README.md beside them."""

"""What makes a picture printable on film: sizes, transparency, the white below, thin parts, and files for printers.

Arrays are uint8 of shape (height, width) or (height, width, bands), at the resolution of the print; lengths in
millimetres or inches say so. Work with floats goes in strips, so memory stays a small multiple of the picture's.
"""

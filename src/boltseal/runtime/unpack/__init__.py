"""Unpacking an image's layers into a tree of files that nothing can leave."""

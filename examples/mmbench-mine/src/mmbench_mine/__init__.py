"""A plugin package in its smallest form: what the pages of docs/extend show, file by file."""

"""The pages that are written from what the code declares, one module for each part of the site. Imports no torch."""

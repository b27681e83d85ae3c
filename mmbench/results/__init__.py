"""What finished runs leave behind: run folders, predictions and tables."""

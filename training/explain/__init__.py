"""What models read and do, shown: `signet explain`."""

"""The command line: one file a command. PyTorch is imported when a command has found nothing to refuse."""

"""What a user is left with: tables, predictions as files, and the report of one system."""

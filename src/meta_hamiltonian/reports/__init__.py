"""What commands leave for a user: tables, predictions as files, and the report of one system."""

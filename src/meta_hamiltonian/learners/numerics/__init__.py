"""What makes the learners fast and exact."""

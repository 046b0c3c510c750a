"""What a dream is made of, and what is known of it."""

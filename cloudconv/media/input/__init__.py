"""What an input is: the files behind a name, how they are opened, and what is known of them."""

"""What partners and their users' browsers reach from outside: the page that OAuth redirects to."""

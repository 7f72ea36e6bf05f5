"""Pictures for papers and for a repository's page, by matplotlib."""

"""The command line of theseus-deploy: a command parses, calls one library function, prints."""

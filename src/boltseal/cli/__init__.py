"""The command line. Only this room reads arguments and the environment, prints, and exits."""

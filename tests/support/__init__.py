"""What tests share: images made on the spot, peers, and a runner for the command line."""

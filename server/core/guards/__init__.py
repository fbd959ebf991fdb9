"""What is watched while flags change, and what is done when it goes wrong."""

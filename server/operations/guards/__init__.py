"""What is watched while flags change, and how they are taken back."""

"""Command lines of the reference implementations: alldbi's main.py and ModelZoo's Factorized_ID1301."""

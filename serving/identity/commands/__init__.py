"""`signet keys`: what an administrator does from a shell."""

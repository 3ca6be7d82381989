"""`signet tune`: many trials of one recipe, on a store that several workers share, and the recipe of the best."""

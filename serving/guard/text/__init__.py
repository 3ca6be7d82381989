"""What happens to text on its way in and out: hidden characters go, and values are replaced as the text comes."""

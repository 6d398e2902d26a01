"""What is published: the sdist, the wheel built from it, and its installation."""

"""Making bundles out of published weights, in a process of its own."""

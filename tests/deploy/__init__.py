"""Checks of what is under deploy/, with tools of their own: `make deploy-test`."""

"""Checks of the files under deploy/, which need tools of their own: `make deploy-test`."""

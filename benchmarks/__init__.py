"""Measurements of the product beside a floor: a trivial server on the same SDK. See README.md."""

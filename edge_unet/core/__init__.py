"""Specs, bundle, recipe, errors: the values everything else speaks in. numpy and pydantic only."""

"""The sample shop: its data, its changes, its transforms, its comparison and its pipeline."""

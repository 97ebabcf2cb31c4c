"""From one sentence to a layer plan."""

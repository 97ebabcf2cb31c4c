"""A deterministic grammar of picture descriptions: words to phrases, phrases to a scene, a scene to a layer plan."""

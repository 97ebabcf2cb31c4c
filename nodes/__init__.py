"""The nodes, one stage of the method each. They hold no maths: that is ``dreamlayer_core``."""

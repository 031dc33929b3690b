"""The host camera: sources by URI, a capture thread, sinks, and the loop that joins them."""

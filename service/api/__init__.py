"""HTTP: health, metrics, the server API, the demo page."""

"""Recognition as a service: HTTP, WebSocket and a web page."""

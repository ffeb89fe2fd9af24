"""Caddy in front of the gateway: HTTPS with certificates that come by themselves, and HTTP/2."""

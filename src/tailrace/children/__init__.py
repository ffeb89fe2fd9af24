"""Programs that run beside a gateway and end with it: NATS, Caddy."""

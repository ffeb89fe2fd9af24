"""NATS as a child of the gateway: what runs are kept in where no cluster is named."""
